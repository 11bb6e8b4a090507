//! Laws of the weight kernels.
#![allow(missing_docs)]

use ml4t_models_core::weights::{Exposure, GroupCap, normalize, walk_within_turnover};
use ml4t_models_core::{CoreError, Result};
use ndarray::{Array1, Array3, array};
use proptest::prelude::*;

const EXACT: f64 = 1e-10;

fn panel(row: Vec<f64>) -> Array3<f64> {
    Array3::from_shape_fn((1, 1, row.len()), |(_, _, i)| row[i])
}

proptest! {
    #[test]
    fn exposures_and_cap_hold(
        row in prop::collection::vec(-1e6f64..1e6, 8..60),
        net in -0.5f64..0.5,
        capped in any::<bool>(),
    ) {
        let cap = capped.then_some(0.25);
        let found = Exposure::new(1.0, net, cap)
            .and_then(|exposure| normalize(panel(row).view(), None, &exposure, None));
        let weights = found.map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert!((weights.mapv(f64::abs).sum() - 1.0).abs() < EXACT);
        prop_assert!((weights.sum() - net).abs() < EXACT);
        prop_assert!(weights.iter().all(|w| w.abs() <= cap.unwrap_or(1.0) + EXACT));
    }

    #[test]
    fn a_cell_is_available_for_every_byte_but_zero(
        cells in prop::collection::vec((-1.0f64..1.0, any::<bool>(), 2u8..), 1..40),
        capped in any::<bool>(),
    ) {
        let (scores, n) = (panel(cells.iter().map(|cell| cell.0).collect()), cells.len());
        let mask = |byte: fn(u8) -> u8| {
            let byte_at = |i: usize| if cells[i].1 { byte(cells[i].2) } else { 0 };
            Array3::from_shape_fn((1, 1, n), |(_, _, i)| byte_at(i))
        };
        let weights = |mask: Array3<u8>| {
            Exposure::new(1.0, 0.5, capped.then_some(0.4))
                .and_then(|exposure| normalize(scores.view(), Some(mask.view()), &exposure, None))
        };
        prop_assert_eq!(weights(mask(|byte| byte)), weights(mask(|_| 1)));
    }

    #[test]
    fn turnover_stays_within_the_budget(
        row in prop::collection::vec(-1.0f64..1.0, 8..40),
        limit in 0.0f64..1.5,
    ) {
        let n_assets = row.len();
        let walk = || -> Result<(Array3<f64>, Array3<f64>)> {
            let exposure = Exposure::new(1.0, 0.0, Some(0.3))?;
            let wanted = normalize(panel(row).view(), None, &exposure, None)?;
            let held = Array1::from_shape_fn(n_assets, |i| match i { 0..2 => 0.25, 2..4 => -0.25, _ => 0.0 });
            let held = held.into_shape_with_order((1, n_assets)).map_err(|_| CoreError::EmptySample {
                what: "held",
                rule: "one row".to_owned(),
            })?;
            let got = walk_within_turnover(wanted.view(), None, Some(held.view()), &exposure, None, limit)?;
            Ok((got, panel(held.row(0).to_vec())))
        };
        let (got, held) = walk().map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert!((&got - &held).mapv(f64::abs).sum() <= limit + EXACT);
        prop_assert!((got.mapv(f64::abs).sum() - 1.0).abs() < EXACT);
        prop_assert!(got.sum().abs() < EXACT);
    }
}

#[test]
fn refusals_say_why() -> Result<()> {
    let exposure = Exposure::new(1.0, 0.0, None)?;
    assert!(matches!(
        Exposure::new(1.0, 2.0, None),
        Err(CoreError::Infeasible { .. })
    ));
    assert!(matches!(
        Exposure::new(1.0, 0.0, Some(0.0)),
        Err(CoreError::Infeasible { .. })
    ));
    assert!(matches!(
        GroupCap::new(array![0, 1].view(), -1.0),
        Err(CoreError::Infeasible { .. })
    ));
    let nan = normalize(panel(vec![1.0, f64::NAN]).view(), None, &exposure, None);
    assert!(matches!(
        nan,
        Err(CoreError::NonFiniteCell { asset: 1, .. })
    ));
    let alone = normalize(panel(vec![1.0]).view(), None, &exposure, None);
    assert!(matches!(alone, Err(CoreError::Infeasible { .. })));
    let mask = Array3::from_elem((1, 1, 3), 1_u8);
    let shape = normalize(
        panel(vec![1.0, 2.0]).view(),
        Some(mask.view()),
        &exposure,
        None,
    );
    assert!(matches!(shape, Err(CoreError::Shape { .. })));
    let limit = walk_within_turnover(
        panel(vec![0.5, -0.5]).view(),
        None,
        None,
        &exposure,
        None,
        -1.0,
    );
    assert!(matches!(limit, Err(CoreError::Range { .. })));
    Ok(())
}
