//! AVX-512 and AVX2 vectors.

use std::arch::x86_64::*;

use super::lanes::{Lanes, LoadFrom, MAX_WIDTH, unit};

macro_rules! vector {
    (
        $vector:ty, $scalar:ty, width $width:literal, tile $rows:literal x $panels:literal,
        half $half:ty, upper |$x:ident| $upper:expr, zero $zero:ident, splat $splat:ident, load $load:ident,
        store $store:ident, fma $fma:ident, add $add:ident, sub $sub:ident,
        or |$new:ident, $old:ident| $or:expr, is_zero |$z:ident| $is_zero:expr,
        add_into |$a:ident, $sums:ident| $add_into:expr
    ) => {
        impl Lanes for $vector {
            type Scalar = $scalar;
            const WIDTH: usize = $width;
            const ROWS: usize = $rows;
            const PANELS: usize = $panels;
            type Half = $half;
            const UNIT: &'static [$scalar; 2 * MAX_WIDTH] = unit!($scalar);

            #[inline(always)]
            unsafe fn zero() -> Self {
                $zero()
            }
            #[inline(always)]
            unsafe fn splat(from: *const $scalar) -> Self {
                $splat(*from)
            }
            #[inline(always)]
            unsafe fn load(from: *const $scalar) -> Self {
                $load(from)
            }
            #[inline(always)]
            unsafe fn store(self, to: *mut $scalar) {
                $store(to, self);
            }
            #[inline(always)]
            unsafe fn upper(self) -> $half {
                let $x = self;
                $upper
            }
            #[inline(always)]
            unsafe fn plus(self, other: Self) -> Self {
                $add(self, other)
            }
            #[inline(always)]
            unsafe fn mul_add(self, a: Self, b: Self) -> Self {
                $fma(a, b, self)
            }
            #[inline(always)]
            unsafe fn mark_non_finite(self, mark: Self) -> Self {
                // x - x is zero for finite x and NaN otherwise, and bits are faster than a sum.
                let ($new, $old) = ($sub(self, self), mark);
                $or
            }
            #[inline(always)]
            unsafe fn is_zero(self) -> bool {
                let $z = self;
                $is_zero
            }
            #[inline(always)]
            unsafe fn add_into(self, $sums: *mut f64) {
                let $a = self;
                $add_into;
            }
        }
    };
}

vector!(
    __m512d, f64, width 8, tile 8 x 3, half __m256d, upper |x| _mm512_extractf64x4_pd::<1>(x),
    zero _mm512_setzero_pd, splat _mm512_set1_pd, load _mm512_loadu_pd, store _mm512_storeu_pd,
    fma _mm512_fmadd_pd, add _mm512_add_pd, sub _mm512_sub_pd,
    or |x, y| {
        let bits = _mm512_or_si512(_mm512_castpd_si512(x), _mm512_castpd_si512(y));
        _mm512_castsi512_pd(bits)
    },
    is_zero |x| _mm512_cmpeq_pd_mask(x, _mm512_setzero_pd()) == 0xff,
    add_into |x, sums| {
        _mm512_storeu_pd(sums, _mm512_add_pd(_mm512_loadu_pd(sums), x));
    }
);

vector!(
    __m512, f32, width 16, tile 8 x 3, half __m256,
    upper |x| _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(x))),
    zero _mm512_setzero_ps, splat _mm512_set1_ps, load _mm512_loadu_ps, store _mm512_storeu_ps,
    fma _mm512_fmadd_ps, add _mm512_add_ps, sub _mm512_sub_ps,
    or |x, y| {
        let bits = _mm512_or_si512(_mm512_castps_si512(x), _mm512_castps_si512(y));
        _mm512_castsi512_ps(bits)
    },
    is_zero |x| _mm512_cmpeq_ps_mask(x, _mm512_setzero_ps()) == 0xffff,
    add_into |x, sums| {
        _mm512_cvtps_pd(_mm512_castps512_ps256(x)).add_into(sums);
        _mm512_cvtps_pd(x.upper()).add_into(sums.add(8));
    }
);

vector!(
    __m256d, f64, width 4, tile 4 x 3, half __m256d, upper |x| x,
    zero _mm256_setzero_pd, splat _mm256_set1_pd, load _mm256_loadu_pd, store _mm256_storeu_pd,
    fma _mm256_fmadd_pd, add _mm256_add_pd, sub _mm256_sub_pd,
    or |x, y| _mm256_or_pd(x, y),
    is_zero |x| {
        let equal = _mm256_cmp_pd::<_CMP_EQ_OQ>(x, _mm256_setzero_pd());
        _mm256_movemask_pd(equal) == 0xf
    },
    add_into |x, sums| {
        _mm256_storeu_pd(sums, _mm256_add_pd(_mm256_loadu_pd(sums), x));
    }
);

vector!(
    __m256, f32, width 8, tile 4 x 3, half __m256, upper |x| x,
    zero _mm256_setzero_ps, splat _mm256_set1_ps, load _mm256_loadu_ps, store _mm256_storeu_ps,
    fma _mm256_fmadd_ps, add _mm256_add_ps, sub _mm256_sub_ps,
    or |x, y| _mm256_or_ps(x, y),
    is_zero |x| {
        let equal = _mm256_cmp_ps::<_CMP_EQ_OQ>(x, _mm256_setzero_ps());
        _mm256_movemask_ps(equal) == 0xff
    },
    add_into |x, sums| {
        _mm256_cvtps_pd(_mm256_castps256_ps128(x)).add_into(sums);
        _mm256_cvtps_pd(_mm256_extractf128_ps::<1>(x)).add_into(sums.add(4));
    }
);

macro_rules! load_from {
    ($from:ty => $vector:ty, all |$p:ident| $all:expr, first |$f:ident, $n:ident| $first:expr) => {
        impl LoadFrom<$from> for $vector {
            #[inline(always)]
            unsafe fn load_from($p: *const $from) -> Self {
                $all
            }
            #[inline(always)]
            unsafe fn load_first($f: *const $from, $n: usize) -> Self {
                $first
            }
        }
    };
}

load_from!(
    f64 => __m512d,
    all |from| _mm512_loadu_pd(from),
    first |from, n| _mm512_maskz_loadu_pd(((1u32 << n) - 1) as __mmask8, from)
);
load_from!(
    f32 => __m512d,
    all |from| _mm512_cvtps_pd(_mm256_loadu_ps(from)),
    first |from, n| _mm512_cvtps_pd(__m256::load_first(from, n))
);
load_from!(
    f32 => __m512,
    all |from| _mm512_loadu_ps(from),
    first |from, n| _mm512_maskz_loadu_ps(((1u32 << n) - 1) as __mmask16, from)
);
load_from!(
    f64 => __m256d,
    all |from| _mm256_loadu_pd(from),
    first |from, n| _mm256_maskload_pd(from, _mm256_cmpgt_epi64(
        _mm256_set1_epi64x(n as i64), _mm256_setr_epi64x(0, 1, 2, 3)
    ))
);
load_from!(
    f32 => __m256d,
    all |from| _mm256_cvtps_pd(_mm_loadu_ps(from)),
    first |from, n| _mm256_cvtps_pd(_mm256_castps256_ps128(__m256::load_first(from, n)))
);
load_from!(
    f32 => __m256,
    all |from| _mm256_loadu_ps(from),
    first |from, n| _mm256_maskload_ps(from, _mm256_cmpgt_epi32(
        _mm256_set1_epi32(n as i32), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)
    ))
);
