//! Instrumented principal components.

use ml4t_models_core::ipca::{
    Loadings, MomentsView, Settings, Solution, Stopping, fit, fit_measures, identify,
    realised_factors,
};
use ml4t_models_core::moments::{Moments, from_rows};
use ml4t_models_core::{CoreError, pool};
use ndarray::{Array1, Array2, Axis, concatenate};
use proptest::prelude::*;

/// Numbers in (-1, 1) from a splitmix generator.
fn noise(seed: u64) -> impl FnMut() -> f64 {
    let mut state = seed;
    move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }
}

/// Moments of a panel with `k` factors, and one observed factor.
fn example(dates: usize, p: usize, k: usize, seed: u64) -> (Moments, Array2<f64>) {
    let mut draw = noise(seed);
    let gamma = Array2::from_shape_simple_fn((p, k), &mut draw);
    let (mut z, mut r, mut offsets) = (Vec::new(), Vec::new(), vec![0]);
    for date in 0..dates {
        let f = Array1::from_shape_simple_fn(k, || draw() + 0.3);
        let beta = gamma.dot(&f);
        for _ in 0..2 * p + date % 5 {
            let row = Array1::from_shape_simple_fn(p, &mut draw);
            r.push(row.dot(&beta) + 0.3 * draw());
            z.extend(row);
        }
        offsets.push(r.len());
    }
    let z = Array2::from_shape_vec((r.len(), p), z).unwrap_or_default();
    let r = Array1::from(r);
    let moments = from_rows(z.view(), r.view(), &offsets, false);
    let observed = Array2::from_shape_simple_fn((dates, 1), &mut draw);
    (
        moments.unwrap_or_else(|error| unreachable!("{error}")),
        observed,
    )
}

fn settings(n_factors: usize) -> Settings {
    Settings {
        n_factors,
        ..Settings::default()
    }
}

fn solve(moments: &Moments, observed: &Array2<f64>, settings: &Settings) -> Solution {
    fit(&MomentsView::from(moments), observed.view(), None, settings)
        .unwrap_or_else(|error| unreachable!("{error}"))
}

fn gap(a: &Array2<f64>, b: &Array2<f64>) -> f64 {
    (a - b)
        .iter()
        .fold(0.0, |largest: f64, v| largest.max(v.abs()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn convergence_comes_with_its_evidence(
        (p, k) in (2usize..9).prop_flat_map(|p| (Just(p), 1..p.min(4))),
        dates in 12usize..40,
        seed: u64,
        max_iter in prop::sample::select(vec![1usize, 3, 500]),
    ) {
        let (moments, observed) = example(dates, p, k, seed);
        let settings = Settings { max_iter, ..settings(k) };
        let found = solve(&moments, &observed, &settings);
        let proof = &found.certificate;
        prop_assert!(proof.monotone);
        prop_assert!(proof.n_als + proof.n_newton <= max_iter);
        prop_assert!(max_iter > 1 || (proof.n_als, proof.n_newton) == (1, 0));
        if proof.stopping == Stopping::Converged {
            prop_assert!(proof.gamma_condition <= settings.tol);
            prop_assert!(proof.factor_condition <= settings.tol);
            prop_assert!(proof.subspace_step <= settings.tol);
        }
    }

    #[test]
    fn the_number_of_threads_does_not_change_a_bit(seed: u64, n_threads in 2usize..5) {
        let (moments, observed) = example(70, 13, 3, seed);
        let with = |n_threads: usize| {
            pool::set_num_threads(n_threads)?;
            pool::install(|| fit(&MomentsView::from(&moments), observed.view(), None, &settings(3)))
        };
        prop_assert_eq!(with(1), with(n_threads));
    }

    #[test]
    fn training_dates_give_the_training_factors(seed: u64, max_iter in 1usize..4) {
        let (moments, observed) = example(30, 6, 2, seed);
        let settings = Settings { max_iter, ..settings(2) };
        let found = solve(&moments, &observed, &settings);
        let loadings = Loadings {
            latent: found.gamma.view(),
            observed: found.gamma_observed.view(),
            ridge: found.ridge,
            second_moment: found.instrument_second_moment.view(),
        };
        let again = realised_factors(&MomentsView::from(&moments), &loadings, observed.view());
        prop_assert_eq!(again, Ok(found.factors));
    }

    #[test]
    fn the_identified_form_keeps_the_fit_and_is_its_own(seed: u64, k in 1usize..4, m in 0usize..3) {
        let mut draw = noise(seed);
        let mut table = |rows, columns| Array2::from_shape_simple_fn((rows, columns), &mut draw);
        let (latent, own, f, g) = (table(7, k), table(7, m), table(20, k), table(20, m));
        let once = identify(latent.view(), own.view(), f.view(), g.view())
            .unwrap_or_else(|error| unreachable!("{error}"));
        let fitted = |latent: &Array2<f64>, own: &Array2<f64>, f: &Array2<f64>| {
            f.dot(&latent.t()) + g.dot(&own.t())
        };
        let before = fitted(&latent, &own, &f);
        prop_assert!(gap(&before, &fitted(&once.latent, &once.observed, &once.factors)) < 1e-12);
        let second = once.factors.t().dot(&once.factors);
        let strengths = second.diag().to_owned();
        prop_assert!(gap(&second, &Array2::from_diag(&strengths)) < 1e-12);
        prop_assert!(strengths.windows(2).into_iter().all(|pair| pair[0] >= pair[1]));
        prop_assert!(gap(&once.latent.t().dot(&once.latent), &Array2::eye(k)) < 1e-12);
        prop_assert!(once.latent.t().dot(&once.observed).iter().all(|v| v.abs() < 1e-12));
        prop_assert!(once.factors.mean_axis(Axis(0)).is_some_and(|mean| mean.iter().all(|&m| m >= 0.0)));
        let twice = identify(
            once.latent.view(), once.observed.view(), once.factors.view(), g.view(),
        ).unwrap_or_else(|error| unreachable!("{error}"));
        prop_assert!(gap(&once.latent, &twice.latent) < 1e-10);
        prop_assert!(gap(&once.factors, &twice.factors) < 1e-10);
    }

    #[test]
    fn a_warm_start_ends_where_it_began(seed: u64) {
        let (moments, observed) = example(40, 6, 2, seed);
        let found = solve(&moments, &observed, &settings(2));
        let start = concatenate![Axis(1), found.gamma, found.gamma_observed];
        let view = MomentsView::from(&moments);
        let again = fit(&view, observed.view(), Some(start.view()), &settings(2))
            .unwrap_or_else(|error| unreachable!("{error}"));
        prop_assert!(gap(&found.gamma, &again.gamma) < 1e-8);
        prop_assert!(gap(&found.gamma_observed, &again.gamma_observed) < 1e-8);
    }
}

#[test]
fn every_refusal_names_its_argument() {
    let (moments, observed) = example(12, 4, 1, 7);
    let view = MomentsView::from(&moments);
    let none = Array2::zeros((12, 0));
    let refusal = |settings: Settings, observed: &Array2<f64>, start: Option<&Array2<f64>>| {
        let start = start.map(|start| start.view());
        match fit(&view, observed.view(), start, &settings) {
            Err(CoreError::Range { what, .. } | CoreError::Shape { what, .. }) => what,
            Err(CoreError::Rank { what, .. } | CoreError::EmptySample { what, .. }) => what,
            _ => "nothing",
        }
    };
    let one = || settings(1);
    assert_eq!(refusal(settings(0), &none, None), "n_factors");
    assert_eq!(refusal(settings(5), &none, None), "n_factors");
    assert_eq!(
        refusal(
            Settings {
                tol: f64::NAN,
                ..one()
            },
            &none,
            None
        ),
        "tol"
    );
    assert_eq!(
        refusal(
            Settings {
                max_iter: 0,
                ..one()
            },
            &none,
            None
        ),
        "max_iter"
    );
    assert_eq!(
        refusal(
            Settings {
                factor_ridge: -1.0,
                ..one()
            },
            &none,
            None
        ),
        "factor_ridge"
    );
    let endless = Settings {
        gamma_ridge: f64::INFINITY,
        ..one()
    };
    assert_eq!(refusal(endless, &none, None), "gamma_ridge");
    assert_eq!(
        refusal(
            Settings {
                min_assets: 0,
                ..one()
            },
            &none,
            None
        ),
        "min_assets"
    );
    assert_eq!(
        refusal(
            Settings {
                min_assets: 99,
                ..one()
            },
            &none,
            None
        ),
        "the panel of returns and characteristics"
    );
    assert_eq!(refusal(one(), &Array2::zeros((11, 1)), None), "observed");
    assert_eq!(
        refusal(one(), &Array2::zeros((12, 1)), None),
        "observed_factors with the intercept"
    );
    assert_eq!(refusal(one(), &(&observed * f64::NAN), None), "observed");
    assert_eq!(refusal(one(), &none, Some(&Array2::ones((4, 2)))), "start");
    assert_eq!(
        refusal(one(), &none, Some(&Array2::from_elem((4, 1), f64::NAN))),
        "start"
    );
    let mute = Moments {
        return_squares: Array1::zeros(12),
        cross: Array2::zeros(moments.cross.dim()),
        ..moments.clone()
    };
    let silent = fit(&MomentsView::from(&mute), none.view(), None, &one());
    assert!(matches!(
        silent,
        Err(CoreError::Rank {
            what: "returns",
            rank: 0,
            wanted: 1
        })
    ));
}

#[test]
fn as_many_factors_as_instruments_fit_the_managed_portfolios_exactly() {
    let (moments, _) = example(12, 4, 2, 3);
    let none = Array2::zeros((12, 0));
    let exact = Settings {
        factor_ridge: 0.0,
        gamma_ridge: 0.0,
        ..settings(4)
    };
    let found = solve(&moments, &none, &exact);
    let view = MomentsView::from(&moments);
    let measures = fit_measures(&view, found.gamma.view(), found.factors.view());
    assert!(measures.is_ok_and(|fit| (fit.managed_total - 1.0).abs() < 1e-12));
}

#[test]
fn dates_seen_many_times_are_worth_what_they_are_worth_once() {
    // More dates than one block of the sums takes, whole blocks and not.
    let (moments, observed) = example(40, 6, 2, 11);
    let settings = Settings {
        gamma_ridge: 0.0,
        ..settings(2)
    };
    let once = solve(&moments, &observed, &settings);
    for times in [7, 16, 32] {
        let many: Vec<usize> = (0..40 * times).map(|t| t % 40).collect();
        let repeated = Moments {
            n_assets: moments.n_assets.select(Axis(0), &many),
            gram: moments.gram.select(Axis(0), &many),
            cross: moments.cross.select(Axis(0), &many),
            return_squares: moments.return_squares.select(Axis(0), &many),
        };
        let more = solve(&repeated, &observed.select(Axis(0), &many), &settings);
        assert!(more.certificate.n_newton > 0);
        assert!(gap(&once.gamma, &more.gamma) < 1e-8);
        assert!(gap(&once.gamma_observed, &more.gamma_observed) < 1e-8);
    }
}
