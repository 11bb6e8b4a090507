//! Vector arithmetic at the width of the machine it runs on, and the slices it runs on.

use pulp::Arch;

/// Independent partial sums, enough to fill the widest registers.
const LANES: usize = 16;

/// The slice of an array that this crate laid out: row by row, column by column, or padded.
///
/// # Panics
///
/// When it is not contiguous. That is a mistake in this crate; to go on would be to leave a row out.
#[track_caller]
#[inline(always)]
#[expect(
    clippy::expect_used,
    reason = "an invariant of this crate, not of its input"
)]
pub(crate) fn contiguous<T>(slice: Option<T>) -> T {
    slice.expect("memory that this crate laid out is contiguous")
}

/// `Σ a_i b_i` over the shorter length.
pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    Arch::new().dispatch(
        #[inline(always)]
        || {
            let mut sums = [0.0; LANES];
            let (a, b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
            let tail: f64 = a
                .remainder()
                .iter()
                .zip(b.remainder())
                .map(|(x, y)| x * y)
                .sum();
            for (x, y) in a.zip(b) {
                for lane in 0..LANES {
                    sums[lane] += x[lane] * y[lane];
                }
            }
            tail + sums.iter().sum::<f64>()
        },
    )
}

/// `a += weight b`.
pub(crate) fn add_scaled(a: &mut [f64], weight: f64, b: &[f64]) {
    Arch::new().dispatch(
        #[inline(always)]
        || {
            for (x, y) in a.iter_mut().zip(b) {
                *x += weight * y;
            }
        },
    );
}

/// Euclidean length.
pub(crate) fn norm(a: &[f64]) -> f64 {
    dot(a, a).sqrt()
}
