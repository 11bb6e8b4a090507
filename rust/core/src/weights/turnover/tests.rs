//! The search among many sides, against all combinations of them.

use ndarray::Array3;

use super::super::{Exposure, normalize};
use super::{Quality, Walk};
use crate::Result;

/// Numbers in -1..1 (Steele, Lea and Flood 2014, SplitMix64).
struct Stream(u64);

impl Stream {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) as f64 / u64::MAX as f64) * 2.0 - 1.0
    }

    fn book(&mut self, n_assets: usize, exposure: &Exposure) -> Result<Vec<f64>> {
        let scores = Array3::from_shape_fn((1, 1, n_assets), |_| self.next());
        Ok(normalize(scores.view(), None, exposure, None)?
            .into_iter()
            .collect())
    }

    fn one_of(&mut self, values: &[f64]) -> f64 {
        let place = (0.5 * (self.next() + 1.0) * values.len() as f64) as usize;
        values[place.min(values.len() - 1)]
    }
}

/// What all combinations give and what the search gives, where the budget binds.
fn both(stream: &mut Stream, n_assets: usize) -> Result<Option<(Quality, Quality)>> {
    let (net, cap) = (stream.one_of(&[0.0, 0.4]), stream.one_of(&[0.2, 0.4, 2.0]));
    let exposure = Exposure::new(1.0, net, Some(cap))?;
    let wanted = stream.book(n_assets, &exposure)?;
    let fill = stream.one_of(&[1.0, 1.0, 0.6]);
    let held: Vec<f64> = stream.book(n_assets, &exposure)?;
    let held: Vec<f64> = held.into_iter().map(|p| fill * p).collect();
    let limit = stream.one_of(&[0.05, 0.2, 0.5, 0.9]);
    let assets: Vec<usize> = (0..n_assets).collect();
    let needed: f64 = wanted.iter().zip(&held).map(|(y, p)| (y - p).abs()).sum();
    if needed <= limit {
        return Ok(None);
    }
    let run = |all: bool| {
        let mut walk = Walk::new(&exposure, None, limit, n_assets);
        walk.book.clone_from(&held);
        walk.stay(&assets, &wanted);
        if all {
            walk.try_all(&assets, &wanted);
        } else {
            walk.search(&assets, &wanted);
        }
        walk.best.map(|(quality, _)| quality)
    };
    Ok(run(true).zip(run(false)))
}

#[test]
fn the_search_goes_as_far_as_any_sides_and_is_nearly_always_the_nearest() -> Result<()> {
    for n_assets in [6, 8, 10] {
        let mut stream = Stream(n_assets as u64);
        let (mut tried, mut farther) = (0, 0);
        for _ in 0..2_000 {
            let Some((all, found)) = both(&mut stream, n_assets)? else {
                continue;
            };
            assert!(found.gap <= all.gap + 1e-12, "{found:?} {all:?}");
            tried += 1;
            farther += usize::from(found.distance > all.distance + 1e-9);
        }
        assert!(tried > 1_000);
        assert!(200 * farther < tried, "{n_assets}: {farther} of {tried}");
    }
    Ok(())
}
