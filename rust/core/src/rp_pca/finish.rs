//! From eigenvectors to loadings, weights, factors and time-series betas.

use ndarray::{Array1, Array2, ArrayView2, Axis};

use super::{Directions, LEAST_VARIANCE, Normalisation, RpPca, Settings, missing, regress};
use crate::stream::{Columns, Stream};
use crate::{CoreError, Real, Result, linalg, pca};

/// A factor that keeps less than this share of its length beside the others is collinear.
const COLLINEAR: f64 = 1e-12;

/// Loadings and weights that belong together.
struct Basis {
    loadings: Array2<f64>,
    weights: Array2<f64>,
}

/// What complete returns are along the directions.
pub(crate) struct Along {
    /// Returns times the directions, shape `(T, K)`.
    pub(crate) returns: Array2<f64>,
    /// Products of the assets' deviations with those of these, shape `(N, K)`.
    pub(crate) cross: Array2<f64>,
}

/// `along` saves reading complete returns twice.
pub(crate) fn finish<R: Real>(
    returns: ArrayView2<'_, R>,
    columns: Columns,
    scale: Option<Array1<f64>>,
    directions: Directions,
    along: Option<Along>,
    settings: &Settings,
) -> Result<RpPca> {
    let complete = columns.complete(returns.nrows());
    let mut basis = Basis::new(&directions, scale.as_ref(), settings.normalisation)?;
    let weights = basis.weights.view();
    let mut factors = match &along {
        Some(along) => linalg::product(along.returns.view(), mix(&directions, weights).view()),
        None if complete => {
            Stream::plain(returns, &columns.mean).times(weights) + columns.mean.dot(&weights)
        }
        None => missing::regress_all(returns, weights),
    };
    if settings.orthogonalise {
        basis.orthogonalise(&mut factors, settings.normalisation)?;
    }
    basis.fix_signs(&mut factors);
    let cross = along.map(|along| {
        let mix = mix(&directions, basis.weights.view());
        linalg::product(along.cross.view(), mix.view())
    });
    let regression = if complete {
        regress::complete(returns, &columns, factors.view(), cross)?
    } else {
        regress::missing(returns, factors.view())?
    };
    Ok(RpPca {
        eigenvalues: directions.values,
        loadings: basis.loadings,
        factor_weights: basis.weights,
        factors,
        asset_betas: regression.betas,
        alphas: regression.alphas,
        residual_variances: regression.residual_variances,
        variances: columns.squares / columns.count,
    })
}

/// Weights as combinations of the directions that span them, shape `(K, K)`.
fn mix(directions: &Directions, weights: ArrayView2<'_, f64>) -> Array2<f64> {
    linalg::product(directions.vectors.t(), weights)
}

impl Basis {
    fn new(
        directions: &Directions,
        scale: Option<&Array1<f64>>,
        normalisation: Normalisation,
    ) -> Result<Self> {
        let vectors = &directions.vectors;
        let mut loadings = match scale {
            Some(scale) => vectors / &scale.view().insert_axis(Axis(1)),
            None => vectors.clone(),
        };
        let mut weights = if scale.is_some() {
            let gram = linalg::product(loadings.t(), loadings.view());
            let solved = linalg::solve_positive_definite(gram.view(), loadings.t());
            let weights = solved.ok_or_else(|| CoreError::Failed {
                what: "inverting the loadings' Gram matrix",
                why: "it is singular".to_owned(),
            })?;
            weights.reversed_axes()
        } else {
            loadings.clone()
        };
        scale_to_unit(&mut weights);
        if normalisation == Normalisation::Variance {
            let roots = directions.values.mapv(|v| v.max(LEAST_VARIANCE).sqrt());
            loadings *= &roots;
            weights /= &roots;
        }
        Ok(Self { loadings, weights })
    }

    /// Rotate so that the factors are uncorrelated, keeping `F Λ'` as it is.
    ///
    /// With `QR` the decomposition of the centred factors over `sqrt(T)`: weights times
    /// `R^-1 diag(R)` (then of unit length), or times `R^-1` (then of unit variance).
    fn orthogonalise(&mut self, factors: &mut Array2<f64>, kind: Normalisation) -> Result<()> {
        let upper = triangle(factors.view())?;
        let k = upper.nrows();
        // Rows of `mix` divide out the diagonal, or not; `mix` is unit upper triangular or R.
        let mut mix = upper;
        if kind == Normalisation::UnitLength {
            for i in 0..k {
                let pivot = mix[(i, i)];
                mix.row_mut(i).mapv_inplace(|v| v / pivot);
            }
        }
        divide(&mut self.weights, &mix);
        divide(factors, &mix);
        self.loadings = linalg::product(self.loadings.view(), mix.t());
        if kind == Normalisation::UnitLength {
            let lengths = scale_to_unit(&mut self.weights);
            *factors /= &lengths;
            self.loadings *= &lengths;
        }
        Ok(())
    }

    fn fix_signs(&mut self, factors: &mut Array2<f64>) {
        let present: Vec<usize> = present_rows(factors.view());
        let seen = factors.select(Axis(0), &present);
        if let Some(premia) = seen.mean_axis(Axis(0)) {
            let deviations = &seen - &premia;
            let signs = pca::signs(premia.view(), deviations.view(), self.loadings.view());
            self.loadings *= &signs;
            self.weights *= &signs;
            *factors *= &signs;
        }
    }
}

/// Dates that have factors.
pub(super) fn present_rows(factors: ArrayView2<'_, f64>) -> Vec<usize> {
    let finite = |t: &usize| factors.row(*t).iter().all(|v| v.is_finite());
    (0..factors.nrows()).filter(finite).collect()
}

/// Scale columns to length one; returns what their lengths were.
fn scale_to_unit(a: &mut Array2<f64>) -> Array1<f64> {
    let lengths = a.map_axis(Axis(0), |column| column.dot(&column).sqrt());
    *a /= &lengths;
    lengths
}

/// `A <- A U^-1` for an upper triangle.
fn divide(a: &mut Array2<f64>, upper: &Array2<f64>) {
    for j in 0..upper.ncols() {
        let (known, mut rest) = a.view_mut().split_at(Axis(1), j);
        let mut column = rest.column_mut(0);
        for (i, earlier) in known.columns().into_iter().enumerate() {
            column.scaled_add(-upper[(i, j)], &earlier);
        }
        column /= upper[(j, j)];
    }
}

/// `R` of the QR decomposition of the centred factors over the root of their number.
fn triangle(factors: ArrayView2<'_, f64>) -> Result<Array2<f64>> {
    let present = present_rows(factors);
    let mut q = factors.select(Axis(0), &present);
    if let Some(mean) = q.mean_axis(Axis(0)) {
        q -= &mean;
    }
    let k = q.ncols();
    let mut upper = Array2::<f64>::zeros((k, k));
    for j in 0..k {
        let (known, mut rest) = q.view_mut().split_at(Axis(1), j);
        let mut column = rest.column_mut(0);
        let length = column.dot(&column).sqrt();
        for _ in 0..2 {
            for (i, earlier) in known.columns().into_iter().enumerate() {
                let weight = earlier.dot(&column);
                upper[(i, j)] += weight;
                column.scaled_add(-weight, &earlier);
            }
        }
        let left = column.dot(&column).sqrt();
        if left.is_nan() || left <= COLLINEAR * length {
            return Err(CoreError::Rank {
                what: "the covariance of the factors",
                rank: j,
                wanted: k,
            });
        }
        column /= left;
        upper[(j, j)] = left;
    }
    Ok(upper / (present.len() as f64).sqrt())
}
