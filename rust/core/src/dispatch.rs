//! Run-time choice of the instruction set for plain loops.
//!
//! A generic wheel compiles loops to SSE2. A [`Kernel`] is compiled three times, and
//! [`dispatch`] picks the widest version that the machine has. The choice depends on the machine
//! alone, so that results do not change with the number of threads.

/// What a kernel computes with.
pub(crate) trait InstructionSet {
    /// A register of `LANES` doubles.
    type Vector: Copy;
    /// Doubles in a register: 4 or 8.
    const LANES: usize;
    /// 32 registers instead of 16.
    const MANY_REGISTERS: bool;

    fn splat(value: f64) -> Self::Vector;
    /// The first `LANES` values.
    fn load(from: &[f64]) -> Self::Vector;
    fn store(vector: Self::Vector, to: &mut [f64]);
    fn add(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `a b + c`.
    fn mul_add(a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
}

/// A loop; `run` must be `#[inline(always)]`, or it is compiled for the oldest machine.
pub(crate) trait Kernel {
    type Output;
    fn run<I: InstructionSet>(self) -> Self::Output;
}

/// Run the version of `kernel` that suits this machine.
pub(crate) fn dispatch<K: Kernel>(kernel: K) -> K::Output {
    #[cfg(target_arch = "x86_64")]
    if let Some(run) = x86::best::<K>() {
        return run(kernel);
    }
    kernel.run::<Portable>()
}

#[cfg(test)]
pub(crate) const N_LEVELS: usize = 3;

/// Run the portable version of `kernel`, that of AVX2, or the one that suits this machine.
#[cfg(test)]
pub(crate) fn at_level<K: Kernel>(level: usize, kernel: K) -> K::Output {
    #[cfg(target_arch = "x86_64")]
    if let (1, Some(run)) = (level, x86::avx2::<K>()) {
        return run(kernel);
    }
    if level == 0 {
        kernel.run::<Portable>()
    } else {
        dispatch(kernel)
    }
}

struct Portable;

impl InstructionSet for Portable {
    type Vector = [f64; 4];
    const LANES: usize = 4;
    const MANY_REGISTERS: bool = false;

    #[inline(always)]
    fn splat(value: f64) -> Self::Vector {
        [value; 4]
    }
    #[inline(always)]
    fn load(from: &[f64]) -> Self::Vector {
        [from[0], from[1], from[2], from[3]]
    }
    #[inline(always)]
    fn store(vector: Self::Vector, to: &mut [f64]) {
        to[..4].copy_from_slice(&vector);
    }
    #[inline(always)]
    fn add(a: Self::Vector, b: Self::Vector) -> Self::Vector {
        std::array::from_fn(|i| a[i] + b[i])
    }
    #[inline(always)]
    fn mul_add(a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector {
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod x86 {
    use std::arch::x86_64::*;

    use super::{InstructionSet, Kernel};

    macro_rules! instruction_set {
        (
            $name:ident, $vector:ty, $lanes:literal, $many:literal, $features:literal,
            $splat:ident $load:ident $store:ident $add:ident $mul_add:ident
        ) => {
            /// Only named inside functions compiled with its features.
            struct $name;

            impl InstructionSet for $name {
                type Vector = $vector;
                const LANES: usize = $lanes;
                const MANY_REGISTERS: bool = $many;

                #[inline(always)]
                fn splat(value: f64) -> Self::Vector {
                    // SAFETY: the caller was compiled with the features of this set.
                    unsafe { $splat(value) }
                }
                #[inline(always)]
                fn load(from: &[f64]) -> Self::Vector {
                    let from = &from[..$lanes];
                    // SAFETY: as above, and `LANES` values are readable; no alignment is needed.
                    unsafe { $load(from.as_ptr()) }
                }
                #[inline(always)]
                fn store(vector: Self::Vector, to: &mut [f64]) {
                    let to = &mut to[..$lanes];
                    // SAFETY: as above, and `LANES` values are writable; no alignment is needed.
                    unsafe { $store(to.as_mut_ptr(), vector) }
                }
                #[inline(always)]
                fn add(a: Self::Vector, b: Self::Vector) -> Self::Vector {
                    // SAFETY: as for `splat`.
                    unsafe { $add(a, b) }
                }
                #[inline(always)]
                fn mul_add(a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector {
                    // SAFETY: as for `splat`.
                    unsafe { $mul_add(a, b, c) }
                }
            }

            impl $name {
                #[target_feature(enable = $features)]
                fn run<K: Kernel>(kernel: K) -> K::Output {
                    kernel.run::<Self>()
                }
            }
        };
    }

    instruction_set!(
        Avx2, __m256d, 4, false, "avx2,fma",
        _mm256_set1_pd _mm256_loadu_pd _mm256_storeu_pd _mm256_add_pd _mm256_fmadd_pd
    );
    instruction_set!(
        Avx512, __m512d, 8, true, "avx512f,avx2,fma",
        _mm512_set1_pd _mm512_loadu_pd _mm512_storeu_pd _mm512_add_pd _mm512_fmadd_pd
    );

    pub(super) fn best<K: Kernel>() -> Option<fn(K) -> K::Output> {
        let found = avx2::<K>();
        if found.is_some() && is_x86_feature_detected!("avx512f") {
            // SAFETY: the machine has every feature that the function was compiled for.
            return Some(|kernel| unsafe { Avx512::run(kernel) });
        }
        found
    }

    pub(super) fn avx2<K: Kernel>() -> Option<fn(K) -> K::Output> {
        let fused = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        // SAFETY: as above.
        fused.then_some(|kernel| unsafe { Avx2::run(kernel) })
    }
}
