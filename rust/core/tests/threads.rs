//! One thread or many, one caller or many: the same bits.
#![allow(missing_docs)]

use ml4t_models_core::managed::managed_portfolios;
use ml4t_models_core::moments::{Moments, from_panel};
use ml4t_models_core::ranks::{Correlation, RankScale, average_ranks, cross_sectional_correlation};
use ml4t_models_core::{Result, pool};
use ndarray::{Array1, Array2, Array3};

type Everything = (Moments, Array2<f64>, Array3<f64>, Array1<f64>);

/// Two dates of ordinary length, one long enough to be summed in parts, all with holes.
fn panel() -> (Array3<f64>, Array2<f64>) {
    let value = |i: usize| ((i * 7_919) % 1_009) as f64 / 500.0 - 1.0;
    let z = Array3::from_shape_fn((3, 40_000, 5), |(t, i, l)| value(t + 3 * i + 11 * l));
    let r = Array2::from_shape_fn((3, 40_000), |(t, i)| {
        let is_hole = i % 17 == 0 || (t != 1 && i > 900);
        if is_hole { f64::NAN } else { value(5 * t + i) }
    });
    (z, r)
}

fn everything(z: &Array3<f64>, r: &Array2<f64>) -> Result<Everything> {
    pool::install(|| {
        Ok((
            from_panel(z.view(), r.view(), None, true)?,
            managed_portfolios(z.view(), r.view(), None)?,
            average_ranks(z.view(), RankScale::Centred)?,
            cross_sectional_correlation(r.view(), r.view(), None, Correlation::Spearman)?,
        ))
    })
}

/// One test, because the number of threads belongs to the process.
#[test]
fn neither_threads_nor_other_callers_change_a_bit() -> Result<()> {
    let (z, r) = panel();
    pool::set_num_threads(1)?;
    let want = everything(&z, &r)?;
    for n_threads in [2, 3, 7] {
        pool::set_num_threads(n_threads)?;
        assert_eq!(everything(&z, &r)?, want, "{n_threads} threads");
        let callers: Vec<Result<Everything>> = std::thread::scope(|scope| {
            let start = |_| scope.spawn(|| everything(&z, &r));
            let handles: Vec<_> = (0..4).map(start).collect();
            handles
                .into_iter()
                .filter_map(|handle| handle.join().ok())
                .collect()
        });
        assert_eq!(callers.len(), 4);
        for got in callers {
            assert_eq!(got?, want, "{n_threads} threads, concurrent callers");
        }
    }
    Ok(())
}
