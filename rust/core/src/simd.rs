//! The micro-kernels, and the only place that chooses an instruction set.
//!
//! A block of usable rows is packed into *panels*: panel `p` holds columns `p W .. (p + 1) W` of
//! the block, one vector of `W` lanes per row, rows one after the other. [`multiply`] then adds the
//! products of the block to the sums of every tile. All pointers in here come from slices and views
//! that the safe functions hold for as long as they are used.
#![allow(unsafe_code, unsafe_op_in_unsafe_fn)]

mod find;
mod kernels;
mod lanes;
mod rows;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::fmt::Debug;

use crate::gram::{Plan, Scratch};
use crate::real::Real;
pub(crate) use kernels::fetch_far;
use lanes::{Lanes, LoadFrom};
pub(crate) use rows::Rows;

/// Instruction set of a kernel call.
///
/// Results agree between levels to rounding; on one machine the level never changes by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// What every machine of the target has.
    Portable,
    /// AVX2 with fused multiply-add.
    Avx2,
    /// AVX-512 (F and VL).
    Avx512,
}

impl Level {
    /// The best level of this machine.
    pub fn best() -> Self {
        Self::available().last().copied().unwrap_or(Self::Portable)
    }

    /// Every level this machine can run, the best one last.
    pub fn available() -> &'static [Self] {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            let all = &[Self::Portable, Self::Avx2, Self::Avx512];
            return if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl") {
                all
            } else {
                &all[..2]
            };
        }
        &[Self::Portable]
    }
}

/// Compile `work`, and all that is inlined into it, for the best vectors of this machine.
///
/// The same operations in the same order: the result has the same bits at every level. The closure,
/// and every closure inside, has to be `#[inline(always)]`, or it is compiled for the oldest machine.
pub(crate) fn widest<R>(work: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2")]
        fn avx2<R>(work: impl FnOnce() -> R) -> R {
            work()
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the feature was just detected.
            return unsafe { avx2(work) };
        }
    }
    work()
}

/// Register tile of a level: what the plan of a product needs to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TileShape {
    /// Lanes of a vector, `W`.
    pub(crate) width: usize,
    /// Rows of a full tile.
    pub(crate) rows: usize,
    /// Rows of a tile of one column vector.
    pub(crate) rows_alone: usize,
    /// Column vectors of a full tile.
    pub(crate) panels: usize,
    /// Whether operations on half a vector are cheaper than on a whole one.
    pub(crate) halves: bool,
}

/// Most rows of a block, for any type.
const MAX_BLOCK: usize = 64;

/// A type that products are computed in.
pub(crate) trait Scalar: Real + Default + Debug {
    /// Most rows whose products are summed in this type before they join the sums in `f64`.
    const BLOCK: usize;

    /// Register tile that `level` uses for this type.
    fn tile_shape(level: Level) -> TileShape;

    /// Add the products of the first `n` packed rows to the sums; fetch `ahead` meanwhile.
    fn multiply(plan: &Plan, scratch: &mut Scratch, n: usize, ahead: Ahead);
}

/// Packing of rows of type `Z` for products of type `Self`.
pub(crate) trait PackFrom<Z: Real>: Scalar {
    /// Pack usable rows, from candidate `from` on, until the block is full or the rows end.
    fn pack<R: Real>(
        plan: &Plan,
        scratch: &mut Scratch,
        rows: &Rows<'_, Z, R>,
        from: usize,
    ) -> Packed;
}

/// What packing did.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Packed {
    /// Rows in the block.
    pub(crate) n: usize,
    /// First candidate not looked at.
    pub(crate) next: usize,
}

/// Memory that the next block will read, fetched while this one multiplies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ahead {
    /// Only ever prefetched, so it may point anywhere.
    pub(crate) start: *const u8,
    /// Bytes per row of a tile.
    pub(crate) step: usize,
}

/// Most rows of a tile of so many column vectors: more where the sums of one vector would have to
/// wait for each other.
const fn most_rows<V: Lanes>(n_panels: usize) -> usize {
    if n_panels == 1 && V::PANELS > 1 {
        V::WIDTH
    } else {
        V::ROWS
    }
}

const fn shape_of<V: Lanes>() -> TileShape {
    TileShape {
        width: V::WIDTH,
        rows: V::ROWS,
        rows_alone: most_rows::<V>(1),
        panels: V::PANELS,
        halves: V::Half::WIDTH < V::WIDTH,
    }
}

/// One function per instruction set, so that the compiler may use it inside.
macro_rules! with_features {
    ($name:ident, $features:literal) => {
        #[cfg(target_arch = "x86_64")]
        mod $name {
            use super::*;

            #[target_feature(enable = $features)]
            pub(super) unsafe fn multiply<V: Lanes>(
                plan: &Plan,
                packed: *const V::Scalar,
                n: usize,
                sums: *mut f64,
                ahead: Ahead,
            ) {
                kernels::multiply::<V>(plan, packed, n, sums, ahead);
            }

            #[target_feature(enable = $features)]
            pub(super) unsafe fn pack<V: LoadFrom<Z>, Z: Real, R: Real>(
                plan: &Plan,
                packed: *mut V::Scalar,
                rows: &Rows<'_, Z, R>,
                from: usize,
            ) -> Packed {
                rows::pack::<V, Z, R>(plan, packed, rows, from)
            }
        }
    };
}

with_features!(avx2, "avx2,fma");
with_features!(avx512, "avx512f,avx512vl,avx2,fma");

macro_rules! scalar {
    ($scalar:ty, block $block:literal, $portable:ty, $avx2:ident, $avx512:ident) => {
        impl Scalar for $scalar {
            const BLOCK: usize = {
                assert!($block <= MAX_BLOCK);
                $block
            };

            fn tile_shape(level: Level) -> TileShape {
                match level {
                    #[cfg(target_arch = "x86_64")]
                    Level::Avx512 => shape_of::<std::arch::x86_64::$avx512>(),
                    #[cfg(target_arch = "x86_64")]
                    Level::Avx2 => shape_of::<std::arch::x86_64::$avx2>(),
                    _ => shape_of::<$portable>(),
                }
            }

            fn multiply(plan: &Plan, scratch: &mut Scratch, n: usize, ahead: Ahead) {
                let (packed, sums) = scratch.parts(plan);
                let (packed, sums) = (packed.as_ptr().cast(), sums.as_mut_ptr());
                // SAFETY: `parts` has the lengths that the plan asks for, and a plan never holds a
                // level that the machine lacks.
                unsafe {
                    match plan.level() {
                        #[cfg(target_arch = "x86_64")]
                        Level::Avx512 => avx512::multiply::<std::arch::x86_64::$avx512>(
                            plan, packed, n, sums, ahead,
                        ),
                        #[cfg(target_arch = "x86_64")]
                        Level::Avx2 => {
                            avx2::multiply::<std::arch::x86_64::$avx2>(plan, packed, n, sums, ahead)
                        }
                        _ => kernels::multiply::<$portable>(plan, packed, n, sums, ahead),
                    }
                }
            }
        }
    };
}

scalar!(f64, block 64, [f64; 4], __m256d, __m512d);
scalar!(f32, block 64, [f32; 8], __m256, __m512);

macro_rules! pack_from {
    ($from:ty => $scalar:ty, $portable:ty, $avx2:ident, $avx512:ident) => {
        impl PackFrom<$from> for $scalar {
            fn pack<R: Real>(
                plan: &Plan,
                scratch: &mut Scratch,
                rows: &Rows<'_, $from, R>,
                from: usize,
            ) -> Packed {
                let (packed, _) = scratch.parts(plan);
                let packed = packed.as_mut_ptr().cast();
                // SAFETY: as in `multiply`; `Rows` borrows the views it points into.
                unsafe {
                    match plan.level() {
                        #[cfg(target_arch = "x86_64")]
                        Level::Avx512 => avx512::pack::<std::arch::x86_64::$avx512, $from, R>(
                            plan, packed, rows, from,
                        ),
                        #[cfg(target_arch = "x86_64")]
                        Level::Avx2 => avx2::pack::<std::arch::x86_64::$avx2, $from, R>(
                            plan, packed, rows, from,
                        ),
                        _ => rows::pack::<$portable, $from, R>(plan, packed, rows, from),
                    }
                }
            }
        }
    };
}

pack_from!(f64 => f64, [f64; 4], __m256d, __m512d);
pack_from!(f32 => f64, [f64; 4], __m256d, __m512d);
pack_from!(f32 => f32, [f32; 8], __m256, __m512);
