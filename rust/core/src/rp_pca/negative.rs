//! Moment matrices whose mean term counts negative: `gamma < -1`, or `gamma < 0` on a covariance.
//!
//! With `J = diag(1, .., 1, -1)` over the rows of the panel `Y`, the matrix is `M = Y'JY`. Few assets:
//! decompose it. Few dates: with `YY' = U S^2 U'`, the nonzero eigenvalues of `M` are those of
//! `S U'JU S`, and an eigenvector `s` of it gives `Y'JUS s / value`, which divides by no small number.

use ndarray::{Array2, Axis, s};

use super::{Directions, require_positive};
use crate::memory::Arrays;
use crate::stream::Stream;
use crate::{Real, Result, decompose, krylov, linalg};

pub(super) fn leading<R: Real>(stream: &Stream<'_, R>, k: usize) -> Result<Directions> {
    let last = stream.n_rows() - 1;
    decompose::require_gram(stream.sides().0)?;
    if !stream.is_wide() {
        let mut matrix = stream.gram();
        let mut unit = Array2::zeros((stream.n_rows(), 1));
        unit[(last, 0)] = 1.0;
        let premium = stream.transpose_times(unit.view());
        linalg::add_product(matrix.view_mut(), -2.0, premium.view(), premium.t());
        let found = decompose::of_matrix(matrix.view(), k, None)?;
        return Ok(Directions {
            values: found.values,
            vectors: found.vectors,
        });
    }
    let gram = linalg::symmetric_eigen(stream.gram().view())?;
    let n = stream.n_rows();
    Arrays::new()
        .times(4, "the Gram matrix", &[n, n])
        .require()?;
    let scaled = gram.vectors * gram.values.mapv(|v| v.max(0.0).sqrt());
    let mut signed = scaled.clone();
    signed.row_mut(last).mapv_inplace(|v| -v);
    let inner = linalg::product(scaled.t(), signed.view());
    let found = linalg::symmetric_eigen(inner.view())?;
    let values = found.values.slice(s![..k]).to_owned();
    require_positive(&values, 0.0)?;
    let rows = linalg::product(signed.view(), found.vectors.slice(s![.., ..k]));
    let images = stream.transpose_times(rows.view()) / values.view().insert_axis(Axis(0));
    let (_, vectors) = krylov::orthonormal_columns(images.view());
    Ok(Directions { values, vectors })
}
