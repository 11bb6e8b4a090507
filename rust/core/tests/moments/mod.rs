//! Per-date moments.

use ml4t_models_core::Real;
use ml4t_models_core::moments::{Moments, from_panel, from_panel_at, from_rows};
use ml4t_models_core::simd::Level;
use ndarray::{Array2, Array3, ArrayView2, ArrayView3, Axis, ShapeBuilder, s};
use proptest::prelude::*;

/// A panel with holes of every kind.
#[derive(Debug, Clone)]
struct Panel {
    z: Array3<f64>,
    r: Array2<f64>,
    mask: Array2<u8>,
}

impl Panel {
    /// Values in (-1, 1) from a splitmix generator; about one cell in `holes` is missing.
    fn new((dates, assets, columns): (usize, usize, usize), holes: u64, seed: u64) -> Self {
        let mut state = seed;
        let mut bits = move || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let x = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            x ^ (x >> 31)
        };
        let mut value = move |holes: u64| match bits() % holes.max(1) {
            0 if holes > 0 => [f64::NAN, f64::INFINITY, f64::NEG_INFINITY][(bits() % 3) as usize],
            _ => (bits() >> 11) as f64 / (1u64 << 52) as f64 - 1.0,
        };
        let rare = holes * columns as u64;
        Self {
            z: Array3::from_shape_simple_fn((dates, assets, columns), || value(rare)),
            r: Array2::from_shape_simple_fn((dates, assets), || value(holes)),
            mask: Array2::from_shape_simple_fn((dates, assets), || u8::from(value(0) < 0.7)),
        }
    }

    fn is_usable(&self, t: usize, i: usize) -> bool {
        self.mask[[t, i]] != 0
            && self.r[[t, i]].is_finite()
            && self
                .z
                .index_axis(Axis(0), t)
                .row(i)
                .iter()
                .all(|x| x.is_finite())
    }
}

/// The definition, term by term.
fn naive(panel: &Panel, constant: bool) -> Moments {
    let (dates, assets, columns) = panel.z.dim();
    let p = columns + usize::from(constant);
    let mut out = Moments::zeros(dates, p);
    for t in 0..dates {
        for i in (0..assets).filter(|&i| panel.is_usable(t, i)) {
            let ones = constant.then_some(1.0);
            let row = panel.z.index_axis(Axis(0), t);
            let z: Vec<f64> = ones.into_iter().chain(row.row(i).iter().copied()).collect();
            let r = panel.r[[t, i]];
            let pairs = (0..p).flat_map(|a| (a..p).map(move |b| (a, b)));
            for (place, (a, b)) in pairs.enumerate() {
                out.gram[[t, place]] += z[a] * z[b];
            }
            for (a, x) in z.iter().enumerate() {
                out.cross[[t, a]] += x * r;
            }
            out.return_squares[t] += r * r;
            out.n_assets[t] += 1;
        }
    }
    out
}

/// Every moment within `tolerance` of the product of the norms of its two columns.
fn assert_close(got: &Moments, want: &Moments, tolerance: f64) {
    assert_eq!(got.n_assets, want.n_assets);
    for t in 0..want.n_dates() {
        let (s, w) = (got.gram_at(t), want.gram_at(t));
        let norm = w.diag().mapv(f64::sqrt);
        let r = want.return_squares[t].sqrt();
        for ((a, b), &entry) in s.indexed_iter() {
            let bound = tolerance * norm[a] * norm[b];
            assert!(
                (entry - w[[a, b]]).abs() <= bound,
                "gram {t} {a} {b}: {entry}"
            );
        }
        for a in 0..norm.len() {
            let error = (got.cross[[t, a]] - want.cross[[t, a]]).abs();
            assert!(error <= tolerance * norm[a] * r, "cross {t} {a}");
        }
        let error = (got.return_squares[t] - want.return_squares[t]).abs();
        assert!(error <= tolerance * r * r, "return squares {t}");
    }
}

fn at<Z: Real, R: Real>(
    level: Level,
    z: ArrayView3<'_, Z>,
    r: ArrayView2<'_, R>,
    panel: &Panel,
    constant: bool,
) -> Moments {
    from_panel_at(level, z, r, Some(panel.mask.view()), constant).unwrap_or(Moments::zeros(0, 0))
}

fn panels() -> impl Strategy<Value = Panel> {
    let shape = (0..4usize, 0..300usize, 0..60usize);
    (shape, 1..50u64, any::<u64>()).prop_map(|(shape, holes, seed)| Panel::new(shape, holes, seed))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn agree_with_the_definition_at_every_level(panel in panels(), constant: bool) {
        let want = naive(&panel, constant);
        for &level in Level::available() {
            let got = at(level, panel.z.view(), panel.r.view(), &panel, constant);
            assert_close(&got, &want, 1e-14);
        }
    }

    #[test]
    fn single_precision_panels_lose_no_more_than_it(panel in panels(), constant: bool) {
        let (z, r) = (panel.z.mapv(|x| x as f32), panel.r.mapv(|x| x as f32));
        let mut rounded = panel.clone();
        rounded.z.zip_mut_with(&z, |wide, &x| *wide = x.into());
        rounded.r.zip_mut_with(&r, |wide, &x| *wide = x.into());
        let want = naive(&rounded, constant);
        for &level in Level::available() {
            assert_close(&at(level, z.view(), r.view(), &panel, constant), &want, 1e-6);
            // Mixed inputs are computed in double precision.
            let mixed = at(level, z.view(), rounded.r.view(), &panel, constant);
            assert_close(&mixed, &want, 1e-14);
            let mixed = at(level, rounded.z.view(), r.view(), &panel, constant);
            assert_close(&mixed, &want, 1e-14);
        }
    }

    #[test]
    fn memory_layout_does_not_change_a_bit(panel in panels(), constant: bool) {
        let mut z = Array3::zeros(panel.z.dim().f());
        let mut r = Array2::zeros(panel.r.dim().f());
        z.assign(&panel.z);
        r.assign(&panel.r);
        let mut flipped = panel.z.clone();
        flipped.invert_axis(Axis(2));
        let flipped = Array3::from_shape_fn(panel.z.dim(), |i| flipped[i]);
        let mut back = flipped.view();
        back.invert_axis(Axis(2));
        for &level in Level::available() {
            let want = at(level, panel.z.view(), panel.r.view(), &panel, constant);
            prop_assert_eq!(&at(level, z.view(), r.view(), &panel, constant), &want);
            prop_assert_eq!(&at(level, back, panel.r.view(), &panel, constant), &want);
        }
    }

    #[test]
    fn rows_and_padded_panels_agree_to_the_bit(panel in panels(), constant: bool) {
        let (dates, assets, columns) = panel.z.dim();
        let all = Array2::from_elem((dates, assets), 1);
        let padded = from_panel(panel.z.view(), panel.r.view(), Some(all.view()), constant);
        let z = panel.z.to_shape((dates * assets, columns));
        let r = panel.r.to_shape(dates * assets);
        let offsets: Vec<usize> = (0..=dates).map(|t| t * assets).collect();
        if let (Ok(z), Ok(r)) = (z, r) {
            prop_assert_eq!(from_rows(z.view(), r.view(), &offsets, constant), padded);
        }
    }
}

#[test]
fn a_long_date_is_the_sum_of_its_parts() {
    let panel = Panel::new((1, 70_000, 3), 20, 7);
    let want = naive(&panel, true);
    for &level in Level::available() {
        let got = at(level, panel.z.view(), panel.r.view(), &panel, true);
        assert_close(&got, &want, 1e-12);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn shards_of_assets_merge_to_the_whole(panel in panels(), share in 0.0..1.0f64) {
        let want = naive(&panel, true);
        let cut = (share * panel.r.ncols() as f64) as usize;
        let part = |range: std::ops::Range<usize>| {
            let (z, r) = (panel.z.slice(s![.., range.clone(), ..]), panel.r.slice(s![.., range.clone()]));
            from_panel(z, r, Some(panel.mask.slice(s![.., range])), true)
        };
        let merged = part(0..cut).and_then(|a| a.merge(&part(cut..panel.r.ncols())?));
        assert_close(&merged.unwrap_or(Moments::zeros(0, 0)), &want, 1e-14);
    }

    #[test]
    fn dates_taken_apart_and_appended_are_the_whole(panel in panels(), share in 0.0..1.0f64) {
        let whole = naive(&panel, false);
        let all: Vec<usize> = (0..whole.n_dates()).collect();
        let (early, late) = all.split_at((share * all.len() as f64) as usize);
        let joined = whole.select(early).and_then(|a| a.append(&whole.select(late)?));
        prop_assert_eq!(joined, Ok(whole));
    }
}
