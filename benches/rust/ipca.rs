//! IPCA on synthetic moments: `cargo bench -p ml4t-models-core --bench ipca`
#![allow(missing_docs)]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use ml4t_models_core::ipca::{MomentsView, Settings, fit};
use ml4t_models_core::moments::{Moments, from_rows};
use ml4t_models_core::{Result, pool};
use ndarray::{Array1, Array2};

/// Dates, assets, instruments, factors estimated, factors in the data.
const SIZES: [(&str, [usize; 5]); 3] = [
    ("small_T240_N500_P13_K3", [240, 500, 13, 3, 3]),
    ("medium_T600_N300_P41_K5", [600, 300, 41, 5, 5]),
    ("hard_T240_N400_P31_K5_of_3", [240, 400, 31, 5, 3]),
];

fn moments([dates, assets, p, _, k]: [usize; 5]) -> Result<Moments> {
    let mut state = 1u64;
    let mut draw = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    };
    let gamma = Array2::from_shape_simple_fn((p, k), &mut draw);
    let (mut z, mut r) = (Vec::new(), Vec::new());
    for _ in 0..dates {
        let beta = gamma.dot(&Array1::from_shape_simple_fn(k, || 0.05 * draw() + 0.005));
        for _ in 0..assets {
            let row = Array1::from_shape_simple_fn(p, &mut draw);
            r.push(row.dot(&beta) + 0.2 * draw());
            z.extend(row);
        }
    }
    let offsets: Vec<usize> = (0..=dates).map(|date| date * assets).collect();
    let z = Array2::from_shape_vec((r.len(), p), z).unwrap_or_default();
    from_rows(z.view(), Array1::from(r).view(), &offsets, false)
}

fn bench_ipca(c: &mut Criterion) {
    let mut group = c.benchmark_group("ipca");
    group.sample_size(20);
    for (name, size) in SIZES {
        let Ok(moments) = moments(size) else { continue };
        let observed = Array2::zeros((size[0], 0));
        let settings = Settings {
            n_factors: size[3],
            ..Settings::default()
        };
        group.bench_function(name, |b| {
            b.iter(|| {
                let view = MomentsView::from(black_box(&moments));
                pool::install(|| fit(&view, observed.view(), None, &settings))
            });
        });
    }
    group.finish();
}

criterion_group!(benches, bench_ipca);
criterion_main!(benches);
