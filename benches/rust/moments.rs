//! Moments at every instruction set, beside a square product:
//! `cargo bench -p ml4t-models-core --bench moments`
//!
//! Throughput counts useful flops, `n Q (Q + 1)` for `n` rows of `Q = L + 2` columns, and `2 n^3` for
//! the square product: the share of peak is the ratio of the two rates.
#![allow(missing_docs)]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ml4t_models_core::linalg::product;
use ml4t_models_core::moments::from_panel_at;
use ml4t_models_core::pool;
use ml4t_models_core::simd::Level;
use ndarray::{Array2, Array3};

const SIZES: [(usize, usize, usize); 3] = [(60, 3_000, 94), (120, 3_000, 40), (240, 3_000, 12)];

fn bench_moments(c: &mut Criterion) {
    // One thread: the share of one core's peak.
    if pool::set_num_threads(1).is_err() {
        return;
    }
    for (dates, assets, columns) in SIZES {
        let mut group = c.benchmark_group(format!("moments/T{dates}_N{assets}_L{columns}"));
        let value = |i: usize| ((i * 7_919) % 1_009) as f64 / 500.0 - 1.0;
        let z = Array3::from_shape_fn((dates, assets, columns), |(t, i, l)| {
            value(t + 3 * i + 11 * l)
        });
        let r = Array2::from_shape_fn((dates, assets), |(t, i)| value(5 * t + i));
        let (narrow_z, narrow_r) = (z.mapv(|x| x as f32), r.mapv(|x| x as f32));
        let q = (columns + 2) as u64;
        group.throughput(Throughput::Elements((dates * assets) as u64 * q * (q + 1)));
        for &level in Level::available() {
            group.bench_function(BenchmarkId::new("f64", format!("{level:?}")), |b| {
                b.iter(|| {
                    pool::install(|| {
                        from_panel_at(level, black_box(z.view()), r.view(), None, true)
                    })
                })
            });
            group.bench_function(BenchmarkId::new("f32", format!("{level:?}")), |b| {
                b.iter(|| {
                    let (z, r) = (black_box(narrow_z.view()), narrow_r.view());
                    pool::install(|| from_panel_at(level, z, r, None, true))
                })
            });
        }
        group.finish();
    }
    let n = 1_024;
    let a = Array2::from_shape_fn((n, n), |(i, j)| ((i * 7 + j * 3) % 11) as f64 - 5.0);
    let mut group = c.benchmark_group("square product");
    group.throughput(Throughput::Elements(2 * (n * n * n) as u64));
    group.bench_function("f64", |b| b.iter(|| product(black_box(a.view()), a.view())));
    group.finish();
}

criterion_group!(benches, bench_moments);
criterion_main!(benches);
