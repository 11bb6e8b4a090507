//! Leading right singular vectors of a streamed panel, by the cheapest way that is right.
//!
//! First a short block Krylov attempt on the panel itself; when the gap is too weak for it, the Gram
//! matrix of the lesser side and Krylov on that; then a full eigendecomposition. Where a wanted
//! singular value is so small that squares have lost it, a full singular value decomposition.

use ndarray::{Array1, Array2, ArrayView2, s};

use crate::krylov::{self, Leading, NARROW, Outcome};
use crate::memory::Arrays;
use crate::stream::{Images, Stream};
use crate::{CoreError, Real, Result, linalg};

/// Squared singular values below this fraction of the largest are too blurred by rounding.
const BLURRED: f64 = 1e-7;

/// Leading singular triplets.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Triplets {
    /// Singular values in descending order, shape `(K,)`.
    pub(crate) values: Array1<f64>,
    /// Right singular vectors in columns, shape `(N, K)`.
    pub(crate) right: Array2<f64>,
    /// The panel times these, shape `(n_rows, K)`.
    pub(crate) scores: Array2<f64>,
}

/// Find the `k` leading triplets.
///
/// # Errors
///
/// [`CoreError::Rank`] when the panel's rank is below `k`; it is judged against the size of the returns,
/// means included, since these leave rounding when they are taken out.
pub(crate) fn leading<R: Real>(stream: &Stream<'_, R>, k: usize) -> Result<Triplets> {
    let (found, image) = eigenpairs(stream, k)?;
    let floor = least(stream).powi(2).max(BLURRED * found.values[0]);
    if found.values[k - 1] <= floor {
        return by_svd(stream, k);
    }
    let image = image.unwrap_or_else(|| image_of(stream, &found));
    Ok(orthogonal(stream, found, image))
}

/// The panel times eigenvectors of the lesser Gram matrix, shape (longer side, k).
fn image_of<R: Real>(stream: &Stream<'_, R>, found: &Leading) -> Array2<f64> {
    if stream.is_wide() {
        stream.transpose_times(found.vectors.view())
    } else {
        stream.times(found.vectors.view())
    }
}

/// Singular triplets from eigenvectors and their image.
///
/// Orthogonalising in descending order takes out of the small ones what rounding mixed in from the
/// large, and the length that is left is the singular value to full accuracy.
fn orthogonal<R: Real>(stream: &Stream<'_, R>, found: Leading, image: Array2<f64>) -> Triplets {
    let (values, image) = krylov::orthonormal_columns(image.view());
    let (right, left) = if stream.is_wide() {
        (image, found.vectors)
    } else {
        (found.vectors, image)
    };
    Triplets {
        scores: left * &values,
        values,
        right,
    }
}

/// Eigenpairs of the Gram matrix of the lesser side, and the panel times them where that is known.
fn eigenpairs<R: Real>(stream: &Stream<'_, R>, k: usize) -> Result<(Leading, Option<Array2<f64>>)> {
    let (short, long) = stream.sides();
    let affordable = short / (4 * NARROW);
    let mut start = None;
    if affordable >= 10 {
        let (steps, size) = (affordable + 1, affordable * NARROW);
        Arrays::new()
            .times(NARROW, "the Krylov space", &[steps, short])
            .times(8, "its projection", &[size, size])
            .times(
                2 * NARROW,
                "images of the panel",
                &[short / (8 * NARROW), long],
            )
            .require()?;
        // What is kept takes no more than an eighth of the panel.
        let mut images = Images::new(NARROW, short / (8 * NARROW));
        let apply = |q: ArrayView2<'_, f64>| stream.gram_times(q, &mut images);
        match krylov::search(short, k, NARROW, affordable, None, apply)? {
            (Outcome::Found(found, _), weights) => {
                return Ok((found, images.combined(weights.slice(s![.., ..k]))));
            }
            (Outcome::Stalled(best), _) => start = Some(best),
        }
    }
    let start = start.as_ref().map(|best| best.view());
    require_gram(short)?;
    Ok((of_matrix(stream.gram().view(), k, start)?, None))
}

/// Leading eigenpairs of a symmetric matrix that is at hand.
///
/// # Errors
///
/// [`CoreError::Failed`] when the matrix is not finite.
pub(crate) fn of_matrix(
    matrix: ArrayView2<'_, f64>,
    k: usize,
    start: Option<ArrayView2<'_, f64>>,
) -> Result<Leading> {
    let n = matrix.nrows();
    let block = krylov::wide(k);
    let steps = n / (2 * block);
    if steps >= 4 {
        Arrays::new()
            .times(block, "the Krylov space", &[steps + 1, n])
            .times(8, "its projection", &[steps * block, steps * block])
            .require()?;
        let tried = krylov::leading(n, k, block, steps, start, |q| linalg::product(matrix, q))?;
        if let Outcome::Found(found, _) = tried {
            return Ok(found);
        }
    }
    full(matrix, k)
}

/// The same, from all eigenpairs.
pub(crate) fn full(matrix: ArrayView2<'_, f64>, k: usize) -> Result<Leading> {
    let full = linalg::symmetric_eigen(matrix)?;
    Ok(Leading {
        values: full.values.slice(s![..k]).to_owned(),
        vectors: full.vectors.slice(s![.., ..k]).to_owned(),
    })
}

/// Refuse a Gram matrix of this side that cannot be had, tiles and all.
pub(crate) fn require_gram(side: usize) -> Result<()> {
    Arrays::new()
        .times(2, "the Gram matrix", &[side, side])
        .times(crate::stream::DEPTH, "a block of returns", &[side])
        .require()
}

/// What rounding makes of nothing, relative to the numbers of a matrix of this size.
pub(crate) fn rounding(n_rows: usize, n_columns: usize) -> f64 {
    n_rows.max(n_columns) as f64 * f64::EPSILON
}

/// Singular values that are no larger are rounding of the means that were taken out.
pub(crate) fn least<R: Real>(stream: &Stream<'_, R>) -> f64 {
    rounding(stream.n_rows(), stream.n_columns()) * stream.level()
}

fn by_svd<R: Real>(stream: &Stream<'_, R>, k: usize) -> Result<Triplets> {
    let (short, long) = stream.sides();
    Arrays::new()
        .times(3, "returns around their means", &[short, long])
        .times(8, "singular vectors", &[short, short])
        .require()?;
    let found = linalg::right_singular(stream.dense().view())?;
    let floor = rounding(stream.n_rows(), stream.n_columns()) * found.values[0];
    let floor = floor.max(least(stream));
    let rank = found.values.iter().filter(|&&v| v > floor).count();
    if rank < k {
        return Err(CoreError::Rank {
            what: "returns",
            rank,
            wanted: k,
        });
    }
    let right = found.vectors.slice(s![.., ..k]).to_owned();
    Ok(Triplets {
        scores: stream.times(right.view()),
        values: found.values.slice(s![..k]).to_owned(),
        right,
    })
}
