//! Laws of ranks, correlations and managed portfolios over random cross-sections.
#![allow(missing_docs, clippy::unwrap_used)]

use ml4t_models_core::managed::managed_portfolios;
use ml4t_models_core::pca;
use ml4t_models_core::ranks::{Correlation, RankScale, average_ranks, cross_sectional_correlation};
use ml4t_models_core::rp_pca::{self, BaseMoment, Normalisation, Settings};
use ndarray::{Array2, Array3, Axis, s};
use proptest::collection::vec;
use proptest::prelude::*;

/// One date of values with ties and gaps.
fn values(n: usize) -> impl Strategy<Value = Vec<f64>> {
    let cell = prop_oneof![
        4 => (-5..6_i32).prop_map(f64::from),
        4 => -5.0..5.0_f64,
        1 => Just(f64::NAN),
        1 => Just(f64::INFINITY),
    ];
    vec(cell, n)
}

/// Three dates of returns and of two characteristics that differ from each other.
fn panel() -> impl Strategy<Value = (Array3<f64>, Array2<f64>)> {
    (6..15_usize).prop_flat_map(|n| {
        (vec(-1.0..1.0_f64, 6 * n), vec(-1.0..1.0_f64, 3 * n)).prop_map(move |(z, r)| {
            let z = Array3::from_shape_vec((3, n, 2), z).unwrap();
            (z, Array2::from_shape_vec((3, n), r).unwrap())
        })
    })
}

fn ranks(x: &[f64], scale: RankScale) -> Vec<f64> {
    let x = Array3::from_shape_vec((1, x.len(), 1), x.to_vec()).unwrap();
    average_ranks(x.view(), scale)
        .unwrap_or_else(|error| unreachable!("{error}"))
        .into_iter()
        .collect()
}

/// Average rank by counting: those below, and half of those that tie.
fn counted(x: &[f64]) -> Vec<f64> {
    let rank = |&v: &f64| {
        let below = x.iter().filter(|&&w| w < v).count() as f64;
        let ties = x.iter().filter(|&&w| w == v).count() as f64;
        if v.is_nan() {
            f64::NAN
        } else {
            below + (ties + 1.0) / 2.0
        }
    };
    x.iter().map(rank).collect()
}

fn same(a: &[f64], b: &[f64], tolerance: f64) -> bool {
    let close = |(x, y): (&f64, &f64)| (x.is_nan() && y.is_nan()) || (x - y).abs() <= tolerance;
    a.len() == b.len() && a.iter().zip(b).all(close)
}

proptest! {
    #[test]
    fn a_rank_counts_those_below_and_half_of_those_that_tie(x in values(17)) {
        prop_assert!(same(&ranks(&x, RankScale::Place), &counted(&x), 0.0));
    }

    #[test]
    fn centred_ranks_add_up_to_zero_and_turn_with_the_sign(x in values(17)) {
        let centred = ranks(&x, RankScale::Centred);
        let sum: f64 = centred.iter().filter(|v| !v.is_nan()).sum();
        prop_assert!(sum.abs() < 1e-12);
        let turned: Vec<f64> = x.iter().map(|v| -v).collect();
        let back: Vec<f64> = ranks(&turned, RankScale::Centred).iter().map(|v| -v).collect();
        prop_assert!(same(&centred, &back, 1e-15));
    }

    #[test]
    fn an_increasing_function_changes_no_rank(x in values(17)) {
        let moved: Vec<f64> = x.iter().map(|v| v.powi(3) + v).collect();
        prop_assert!(same(&ranks(&x, RankScale::Place), &ranks(&moved, RankScale::Place), 0.0));
    }

    #[test]
    fn spearman_is_pearson_of_the_ranks(x in values(17), y in values(17)) {
        let both = |i: &usize| x[*i].is_finite() && y[*i].is_finite();
        let kept: Vec<usize> = (0..17).filter(both).collect();
        let pick = |of: &[f64]| kept.iter().map(|&i| of[i]).collect::<Vec<f64>>();
        let row = |of: Vec<f64>| Array2::from_shape_vec((1, of.len()), of).unwrap();
        let of_values = cross_sectional_correlation(
            row(x.clone()).view(), row(y.clone()).view(), None, Correlation::Spearman,
        ).unwrap();
        let (a, b) = (row(counted(&pick(&x))), row(counted(&pick(&y))));
        let of_ranks =
            cross_sectional_correlation(a.view(), b.view(), None, Correlation::Pearson).unwrap();
        prop_assert!(same(&of_values.to_vec(), &of_ranks.to_vec(), 1e-12));
        prop_assert!(of_values[0].is_nan() || of_values[0].abs() <= 1.0 + 1e-12);
    }

    #[test]
    fn what_managed_portfolios_leave_is_orthogonal_to_the_instruments((z, r) in panel()) {
        let found = managed_portfolios(z.view(), r.view(), None).unwrap();
        for t in 0..3 {
            let (z, x) = (z.index_axis(Axis(0), t), found.row(t));
            let fitted = z.dot(&x.slice(s![..2])) + x[2];
            let left = &r.row(t) - &fitted;
            prop_assert!(left.sum().abs() < 1e-9);
            prop_assert!(z.t().dot(&left).iter().all(|v| v.abs() < 1e-9));
        }
    }

    #[test]
    fn a_masked_row_is_as_one_that_is_not_there((z, r) in panel()) {
        let n = r.ncols();
        let mut mask = Array2::from_elem((3, n), 1_u8);
        mask.column_mut(n - 1).fill(0);
        let masked = managed_portfolios(z.view(), r.view(), Some(mask.view())).unwrap();
        let fewer = managed_portfolios(z.slice(s![.., ..n - 1, ..]), r.slice(s![.., ..n - 1]), None);
        prop_assert_eq!(masked, fewer.unwrap());
        let mut missing = z.clone();
        missing.slice_mut(s![.., n - 1, 0]).fill(f64::NAN);
        let fewer = managed_portfolios(z.slice(s![.., ..n - 1, ..]), r.slice(s![.., ..n - 1]), None);
        let found = managed_portfolios(missing.view(), r.view(), None);
        prop_assert_eq!(found.unwrap(), fewer.unwrap());
    }

    #[test]
    fn managed_portfolios_are_linear_in_returns((z, r) in panel(), a in -3.0..3.0_f64) {
        let of = |r: Array2<f64>| managed_portfolios(z.view(), r.view(), None).unwrap();
        let plain = of(r.clone());
        let squares = r.mapv(|v| v * v);
        let together = of(&r * a + &squares);
        let apart = together - (plain * a + of(squares));
        prop_assert!(apart.iter().all(|v| v.abs() < 1e-8));
    }

    #[test]
    fn without_a_mean_term_rp_pca_is_pca(x in vec(-1.0..1.0_f64, 9 * 12)) {
        let x = Array2::from_shape_vec((9, 12), x).unwrap();
        let plain = pca::fit(x.view(), 2).unwrap();
        let values = &plain.singular_values;
        prop_assume!(values[0] - values[1] > 1e-2);
        let settings = Settings {
            n_factors: 1,
            gamma: -1.0,
            base: BaseMoment::SecondMoment,
            scale_by_volatility: false,
            normalisation: Normalisation::UnitLength,
            orthogonalise: false,
        };
        let found = rp_pca::fit(x.view(), &settings).unwrap();
        prop_assert!((found.eigenvalues[0] - values[0].powi(2) / 9.0).abs() < 1e-12);
        let apart = &found.loadings.column(0) - &plain.loadings.column(0);
        prop_assert!(apart.iter().all(|v| v.abs() < 1e-9));
    }
}
