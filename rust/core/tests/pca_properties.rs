//! Laws of the factor kernels over random panels.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use ml4t_models_core::krylov::{self, NARROW, Outcome};
use ml4t_models_core::rp_pca::{BaseMoment, Normalisation, Settings};
use ml4t_models_core::{CoreError, linalg, pca, pool, rolling, rp_pca};
use ndarray::{Array1, Array2, Axis, concatenate, s};
use proptest::collection::vec;
use proptest::prelude::*;

fn panel(rows: usize, columns: usize) -> impl Strategy<Value = Array2<f64>> {
    vec(-1.0..1.0_f64, rows * columns)
        .prop_map(move |cells| Array2::from_shape_vec((rows, columns), cells).unwrap())
}

fn any_panel() -> impl Strategy<Value = Array2<f64>> {
    (3..14_usize, 3..14_usize).prop_flat_map(|(rows, columns)| panel(rows, columns))
}

fn settings(n_factors: usize, gamma: f64, base: BaseMoment) -> Settings {
    Settings {
        n_factors,
        gamma,
        base,
        scale_by_volatility: false,
        normalisation: Normalisation::UnitLength,
        orthogonalise: false,
    }
}

/// Largest entry by which two matrices differ.
fn apart(a: &Array2<f64>, b: &Array2<f64>) -> f64 {
    (a - b).iter().fold(0.0, |top: f64, v| top.max(v.abs()))
}

/// The smallest distance between neighbours of the first `k` values and the rest.
fn least_gap(values: &Array1<f64>, k: usize) -> f64 {
    (0..k.min(values.len() - 1))
        .map(|i| values[i] - values[i + 1])
        .fold(f64::INFINITY, f64::min)
}

/// Moment matrix of RP-PCA, from its definition.
fn moments(x: &Array2<f64>, gamma: f64, base: BaseMoment) -> Array2<f64> {
    let t = x.nrows() as f64;
    let mean = x.mean_axis(Axis(0)).unwrap();
    let outer = linalg::product(
        mean.view().insert_axis(Axis(1)),
        mean.view().insert_axis(Axis(0)),
    );
    match base {
        BaseMoment::SecondMoment => x.t().dot(x) / t + outer * gamma,
        BaseMoment::Covariance => {
            let centred = x - &mean;
            centred.t().dot(&centred) / (t - 1.0) + outer * gamma
        }
    }
}

proptest! {
    #[test]
    fn whichever_form_is_used_the_eigenvectors_are_those_of_the_moment_matrix(
        x in any_panel(), gamma in -4.0..30.0_f64, covariance in any::<bool>(), k in 1..3_usize,
    ) {
        let base = if covariance { BaseMoment::Covariance } else { BaseMoment::SecondMoment };
        let matrix = moments(&x, gamma, base);
        let exact = linalg::symmetric_eigen(matrix.view()).unwrap();
        prop_assume!(least_gap(&exact.values, k) > 1e-3 && exact.values[k - 1] > 1e-3);
        let found = rp_pca::fit(x.view(), &settings(k, gamma, base)).unwrap();
        for i in 0..k {
            prop_assert!((found.eigenvalues[i] - exact.values[i]).abs() < 1e-10);
            let v = found.loadings.column(i);
            prop_assert!((matrix.dot(&v) - &v * exact.values[i]).iter().all(|r| r.abs() < 1e-9));
        }
    }

    #[test]
    fn order_and_scale_of_assets_go_through(x in any_panel(), scale in 1e-6..1e6_f64) {
        let Ok(plain) = pca::fit(x.view(), 2) else { return Ok(()) };
        prop_assume!(least_gap(&plain.singular_values, 2) > 1e-3);
        let full = linalg::symmetric_eigen(moments(&x, -1.0, BaseMoment::SecondMoment).view());
        prop_assume!(least_gap(&full.unwrap().values, 2) > 1e-3);
        let reversed = pca::fit(x.slice(s![.., ..;-1]), 2).unwrap();
        let back = reversed.loadings.slice(s![..;-1, ..]).to_owned();
        prop_assert!(apart(&back, &plain.loadings) < 1e-9);
        let scaled = pca::fit((&x * scale).view(), 2).unwrap();
        prop_assert!(apart(&scaled.loadings, &plain.loadings) < 1e-9);
        prop_assert!(apart(&(scaled.factors / scale), &plain.factors) < 1e-9);
    }

    #[test]
    fn premia_are_not_negative(x in any_panel(), gamma in 0.0..20.0_f64) {
        if let Ok(found) = pca::fit(x.view(), 2) {
            prop_assert!(found.factors.mean_axis(Axis(0)).unwrap().iter().all(|m| *m > -1e-12));
        }
        let settings = settings(2, gamma, BaseMoment::SecondMoment);
        if let Ok(found) = rp_pca::fit(x.view(), &settings) {
            prop_assert!(found.factors.mean_axis(Axis(0)).unwrap().iter().all(|m| *m > -1e-12));
        }
    }

    #[test]
    fn a_rank_below_the_number_of_factors_is_refused(x in any_panel(), y in panel(14, 2)) {
        let low = y.slice(s![..x.nrows(), ..]).dot(&x.slice(s![..2, ..]));
        let refused = pca::fit(low.view(), 3);
        let is_rank = matches!(refused, Err(CoreError::Rank { wanted: 3, .. }));
        prop_assert!(is_rank, "{refused:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn krylov_finds_what_the_full_decomposition_finds_or_stalls(
        spectrum in vec(0.0..1.0_f64, 120), copies in 1..9_usize, at in 0..6_usize, seed in any::<u64>(),
        apart in prop_oneof![Just(0.0), (-15.0..-3.0_f64).prop_map(|power| 10_f64.powf(power))],
    ) {
        // A spectrum with one eigenvalue repeated, or nearly so, in a random basis.
        let mut values = spectrum;
        values.sort_by(|a, b| b.total_cmp(a));
        for i in at..at + copies {
            values[i] = values[at] - apart * (i - at) as f64;
        }
        values.sort_by(|a, b| b.total_cmp(a));
        let basis = random_basis(120, seed);
        let matrix = (&basis * &Array1::from(values.clone())).dot(&basis.t());
        for block in [NARROW, krylov::wide(5)] {
            let outcome = krylov::leading(120, 5, block, 25, None, |q| matrix.dot(&q)).unwrap();
            let Outcome::Found(found, _) = outcome else { continue };
            for (i, &value) in values.iter().enumerate().take(5) {
                prop_assert!((found.values[i] - value).abs() < 1e-12, "block {block}, value {i}");
                let v = found.vectors.column(i);
                let residual = matrix.dot(&v) - &v * value;
                prop_assert!(residual.iter().all(|r| r.abs() < 1e-11));
            }
        }
    }

    #[test]
    fn a_window_is_fitted_as_it_is_alone(x in panel(40, 50), gamma in -1.0..20.0_f64) {
        let market = Array2::from_shape_fn((40, 50), |(t, i)| {
            (t as f64).sin() * (1.0 + i as f64 / 50.0) + (t as f64 * 2.3).cos() * (i as f64).sin()
        });
        let x = x * 0.1 + market + 0.3;
        let windows = [0..30, 5..35, 10..40, 0..40];
        let settings = settings(2, gamma, BaseMoment::SecondMoment);
        let many = rolling::rp_pca(x.view(), &settings, &windows).unwrap();
        for (window, found) in windows.iter().zip(many) {
            let alone = rp_pca::fit(x.slice(s![window.clone(), ..]), &settings).unwrap();
            prop_assert!(apart(&found.loadings, &alone.loadings) < 1e-9);
            prop_assert!(apart(&found.factors, &alone.factors) < 1e-9);
        }
    }
}

fn random_basis(n: usize, seed: u64) -> Array2<f64> {
    let mut state = seed | 1;
    let half = Array2::from_shape_fn((n, n), |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as f64 / u64::MAX as f64 - 0.5
    });
    linalg::symmetric_eigen((&half + &half.t()).view())
        .unwrap()
        .vectors
}

/// A wide and a tall panel, large enough for every path of the streamed products.
fn large() -> [Array2<f64>; 2] {
    let factors = random_basis(300, 3).slice(s![.., ..4]).to_owned() * 40.0;
    let loadings = random_basis(420, 5).slice(s![.., ..4]).to_owned();
    let noise = random_basis(420, 9).slice(s![..300, ..]).to_owned();
    let wide = factors.dot(&loadings.t()) + noise * 0.2 + 0.01;
    let tall = wide.t().to_owned();
    [wide, tall]
}

#[test]
fn reading_in_place_and_packing_agree() {
    for x in large() {
        // A column-major copy has no contiguous rows: it is packed.
        let mut packed = Array2::zeros((x.ncols(), x.nrows())).reversed_axes();
        packed.assign(&x);
        let settings = settings(3, 7.0, BaseMoment::SecondMoment);
        let one = rp_pca::fit(x.view(), &settings).unwrap();
        let other = rp_pca::fit(packed.view(), &settings).unwrap();
        assert!(apart(&one.loadings, &other.loadings) < 1e-11);
        let (one, other) = (
            pca::fit(x.view(), 3).unwrap(),
            pca::fit(packed.view(), 3).unwrap(),
        );
        assert!(apart(&one.loadings, &other.loadings) < 1e-11);
        assert!(apart(&one.factors, &other.factors) < 1e-10);
    }
}

#[test]
fn bits_do_not_depend_on_the_threads() {
    for x in large() {
        let mut found = Vec::new();
        for n_threads in [1, 3] {
            pool::set_num_threads(n_threads).unwrap();
            let settings = settings(3, 7.0, BaseMoment::SecondMoment);
            found.push(pool::install(|| rp_pca::fit(x.view(), &settings)).unwrap());
        }
        assert_eq!(found[0], found[1]);
    }
}

#[test]
fn an_asset_never_seen_is_named() {
    let mut x = random_basis(6, 1);
    x.column_mut(4).fill(f64::NAN);
    let expected = CoreError::NoData {
        what: "returns",
        axis: "asset",
        index: 4,
    };
    assert_eq!(pca::fit(x.view(), 2), Err(expected.clone()));
    let settings = settings(2, 1.0, BaseMoment::SecondMoment);
    assert_eq!(rp_pca::fit(x.view(), &settings), Err(expected));
}

#[test]
fn an_eigenvalue_with_more_copies_than_the_block_stalls() {
    let values = Array1::from_shape_fn(200, |i| if i < 20 { 2.0 } else { 1.0 / (i as f64) });
    let diagonal = Array2::from_diag(&values);
    for block in [NARROW, krylov::wide(5)] {
        let outcome = krylov::leading(200, 5, block, 20, None, |q| diagonal.dot(&q)).unwrap();
        assert!(matches!(outcome, Outcome::Stalled(_)));
    }
}

#[test]
fn a_start_that_misses_the_leading_vector_still_finds_it() {
    let values = Array1::from_shape_fn(100, |i| 1.0 / (1.0 + i as f64));
    let diagonal = Array2::from_diag(&values);
    let identity = Array2::<f64>::eye(100);
    let start = concatenate(Axis(1), &[identity.slice(s![.., 1..9])]).unwrap();
    let outcome = krylov::leading(100, 3, 8, 11, Some(start.view()), |q| diagonal.dot(&q));
    if let Outcome::Found(found, _) = outcome.unwrap() {
        assert!((found.values[0] - 1.0).abs() < 1e-12);
    }
}
