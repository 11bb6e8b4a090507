//! Vectors of each instruction set behind one trait.

use crate::real::Real;

/// Most lanes of a vector.
pub(super) const MAX_WIDTH: usize = 16;

/// The constant of [`Lanes::UNIT`] for a type.
macro_rules! unit {
    ($scalar:ty) => {
        &const {
            let mut row: [$scalar; 2 * MAX_WIDTH] = [0.0; 2 * MAX_WIDTH];
            row[MAX_WIDTH] = 1.0;
            row
        }
    };
}
pub(super) use unit;

/// A vector register, or an array that stands for one.
///
/// # Safety
///
/// Pointers must be valid for `WIDTH` scalars (one for `splat`, `WIDTH` `f64` for `add_into`);
/// the processor must have the instruction set of the type, which callers prove by being inside a
/// function with that target feature.
pub(crate) trait Lanes: Copy {
    /// What a lane holds.
    type Scalar: Real;
    /// Number of lanes.
    const WIDTH: usize;
    /// Rows of the largest tile that stays in registers.
    const ROWS: usize;
    /// Column vectors of that tile.
    const PANELS: usize;
    /// Half of the lanes where an operation on them is cheaper than one on the whole, or the whole.
    type Half: Lanes<Scalar = Self::Scalar>;

    /// A one after as many zeros as the widest vector has lanes, and before as many.
    const UNIT: &'static [Self::Scalar; 2 * MAX_WIDTH];

    unsafe fn zero() -> Self;
    unsafe fn splat(from: *const Self::Scalar) -> Self;
    unsafe fn load(from: *const Self::Scalar) -> Self;
    unsafe fn store(self, to: *mut Self::Scalar);
    /// One in a lane, zero in the others; zero everywhere if there is no such lane.
    #[inline(always)]
    unsafe fn unit(lane: usize) -> Self {
        Self::load(Self::UNIT.as_ptr().add(MAX_WIDTH - lane.min(MAX_WIDTH)))
    }
    /// The upper half of the lanes, or the whole where that is `Half`.
    unsafe fn upper(self) -> Self::Half;
    unsafe fn plus(self, other: Self) -> Self;
    /// `self + a b`, fused where the machine can.
    unsafe fn mul_add(self, a: Self, b: Self) -> Self;
    /// `mark` stays zero unless a lane of `self` is NaN or infinite.
    unsafe fn mark_non_finite(self, mark: Self) -> Self;
    /// Whether every lane is zero; a NaN is not.
    unsafe fn is_zero(self) -> bool;
    /// Add lane by lane to `sums`, in double precision.
    unsafe fn add_into(self, sums: *mut f64);
}

/// Lanes that can be read from a panel of type `Z`.
pub(crate) trait LoadFrom<Z>: Lanes {
    unsafe fn load_from(from: *const Z) -> Self;
    /// The first `n < WIDTH` values, then zeros; nothing beyond them is read.
    unsafe fn load_first(from: *const Z, n: usize) -> Self;
}

macro_rules! portable {
    ($scalar:ty, $width:literal) => {
        impl Lanes for [$scalar; $width] {
            type Scalar = $scalar;
            const WIDTH: usize = $width;
            const ROWS: usize = 4;
            const PANELS: usize = 1;
            type Half = Self;
            const UNIT: &'static [$scalar; 2 * MAX_WIDTH] = unit!($scalar);

            #[inline(always)]
            unsafe fn zero() -> Self {
                [0.0; $width]
            }
            #[inline(always)]
            unsafe fn splat(from: *const $scalar) -> Self {
                [*from; $width]
            }
            #[inline(always)]
            unsafe fn load(from: *const $scalar) -> Self {
                from.cast::<Self>().read_unaligned()
            }
            #[inline(always)]
            unsafe fn store(self, to: *mut $scalar) {
                to.cast::<Self>().write_unaligned(self);
            }
            #[inline(always)]
            unsafe fn upper(self) -> Self {
                self
            }
            #[inline(always)]
            unsafe fn plus(self, other: Self) -> Self {
                std::array::from_fn(|i| self[i] + other[i])
            }
            #[inline(always)]
            unsafe fn mul_add(self, a: Self, b: Self) -> Self {
                std::array::from_fn(|i| self[i] + a[i] * b[i])
            }
            #[inline(always)]
            unsafe fn mark_non_finite(self, mark: Self) -> Self {
                std::array::from_fn(|i| mark[i] + (self[i] - self[i]))
            }
            #[inline(always)]
            unsafe fn is_zero(self) -> bool {
                self.iter().all(|&lane| lane == 0.0)
            }
            #[inline(always)]
            unsafe fn add_into(self, sums: *mut f64) {
                for (i, lane) in self.into_iter().enumerate() {
                    *sums.add(i) += f64::from(lane);
                }
            }
        }
    };
}

portable!(f64, 4);
portable!(f32, 8);

macro_rules! portable_load {
    ($from:ty, $scalar:ty, $width:literal) => {
        impl LoadFrom<$from> for [$scalar; $width] {
            #[inline(always)]
            unsafe fn load_from(from: *const $from) -> Self {
                std::array::from_fn(|i| <$scalar>::from(*from.add(i)))
            }
            #[inline(always)]
            unsafe fn load_first(from: *const $from, n: usize) -> Self {
                let mut out = [0.0; $width];
                for (i, lane) in out.iter_mut().enumerate().take(n) {
                    *lane = <$scalar>::from(*from.add(i));
                }
                out
            }
        }
    };
}

portable_load!(f64, f64, 4);
portable_load!(f32, f64, 4);
portable_load!(f32, f32, 8);
