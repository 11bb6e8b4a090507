//! Products of a tall or wide block of rows with a matrix of a few columns.
//!
//! General matrix products pack their operands; with eight columns on one side that costs more than
//! the product itself. Here rows are read where they lie, in registers' width.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use crate::Real;
use crate::simd::fetch_far;

/// Rows that are multiplied while their sums lie in registers; the rows after them are fetched.
const GROUP: usize = 16;

/// So many numbers lie in the second-level cache already: all their rows are one group.
const NEAR: usize = 1 << 16;

/// `out += B'U`, transposed.
///
/// `rows` are the rows of `B`, all of length `w`; `u` holds as many rows of `lanes` numbers; `out` holds
/// `lanes` rows of `w`.
pub(crate) fn columns_times<E: Real>(rows: &[&[E]], u: &[f64], lanes: usize, out: &mut [f64]) {
    Arch::new().dispatch(ColumnsTimes {
        rows,
        u,
        lanes,
        out,
    });
}

/// `out += B Z`.
///
/// `rows` are the rows of `B`, all of length `w`; `z` holds the transpose of `Z`, `lanes` rows of `w`;
/// `out` holds `lanes` numbers for every row of `B`.
pub(crate) fn rows_times<E: Real>(rows: &[&[E]], z: &[f64], lanes: usize, out: &mut [f64]) {
    Arch::new().dispatch(RowsTimes {
        rows,
        z,
        lanes,
        out,
    });
}

struct ColumnsTimes<'a, E> {
    rows: &'a [&'a [E]],
    u: &'a [f64],
    lanes: usize,
    out: &'a mut [f64],
}

impl<E: Real> WithSimd for ColumnsTimes<'_, E> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let width = self.rows.first().map_or(0, |row| row.len());
        let size = if self.rows.len() * width <= NEAR {
            self.rows.len().max(1)
        } else {
            GROUP
        };
        let groups = self.rows.chunks(size).zip(self.u.chunks(size * self.lanes));
        for (index, (rows, u)) in groups.enumerate() {
            let ahead = &self.rows[self.rows.len().min((index + 1) * size)..];
            let mut group = Group {
                rows,
                ahead: &ahead[..ahead.len().min(rows.len())],
                fetching: &[],
                u,
                lanes: self.lanes,
                width,
                out: &mut *self.out,
            };
            let mut lane = 0;
            while lane < self.lanes {
                lane += group.some::<S>(simd, lane);
            }
        }
    }
}

/// A few rows, whose products are added to all of `out`.
struct Group<'a, E> {
    rows: &'a [&'a [E]],
    /// Rows to be fetched, and what is left of the one before them.
    ahead: &'a [&'a [E]],
    fetching: &'a [E],
    u: &'a [f64],
    lanes: usize,
    width: usize,
    out: &'a mut [f64],
}

impl<E: Real> Group<'_, E> {
    /// The columns of `u` from `lane` on that registers have room for; returns how many.
    #[inline(always)]
    fn some<S: Simd>(&mut self, simd: S, lane: usize) -> usize {
        let left = self.lanes - lane;
        if S::F64_LANES < 8 {
            // Sixteen registers.
            return match left {
                4.. => self.all::<S, 4, 2>(simd, lane),
                3 => self.all::<S, 3, 3>(simd, lane),
                2 => self.all::<S, 2, 4>(simd, lane),
                _ => self.all::<S, 1, 4>(simd, lane),
            };
        }
        match left {
            8.. => self.all::<S, 8, 2>(simd, lane),
            4.. => self.all::<S, 4, 4>(simd, lane),
            3 => self.all::<S, 3, 6>(simd, lane),
            2 => self.all::<S, 2, 8>(simd, lane),
            _ => self.all::<S, 1, 8>(simd, lane),
        }
    }

    /// `J` columns of `u` against all of the rows, `W` registers' width at a time; returns `J`.
    #[inline(always)]
    fn all<S: Simd, const J: usize, const W: usize>(&mut self, simd: S, lane: usize) -> usize {
        let (many, one) = (W * S::F64_LANES, S::F64_LANES);
        let most = self.width - self.width % many;
        for column in (0..most).step_by(many) {
            self.tile::<S, J, W>(simd, lane, column..column + many);
        }
        for column in (most..self.width).step_by(one) {
            self.tile::<S, J, 1>(simd, lane, column..self.width.min(column + one));
        }
        J
    }

    /// Fetch so many numbers, row after row: memory is quickest along a row.
    #[inline(always)]
    fn fetch(&mut self, count: usize) {
        if self.fetching.is_empty() {
            let Some((row, later)) = self.ahead.split_first() else {
                return;
            };
            (self.fetching, self.ahead) = (row, later);
        }
        fetch_far(self.fetching, count);
        self.fetching = self.fetching.get(count..).unwrap_or_default();
    }

    #[inline(always)]
    fn tile<S: Simd, const J: usize, const W: usize>(
        &mut self,
        simd: S,
        lane: usize,
        columns: Range<usize>,
    ) {
        let mut sums = [[simd.splat_f64s(0.0); W]; J];
        for (row, u) in self.rows.iter().zip(self.u.chunks_exact(self.lanes)) {
            self.fetch(W * S::F64_LANES);
            let row = &row[columns.clone()];
            let x = registers::<S, E, W>(simd, row);
            let u = &u[lane..lane + J];
            for j in 0..J {
                let weight = simd.splat_f64s(u[j]);
                for w in 0..W {
                    sums[j][w] = simd.mul_add_e_f64s(weight, x[w], sums[j][w]);
                }
            }
        }
        for (j, sums) in sums.iter().enumerate() {
            let start = (lane + j) * self.width;
            let out = &mut self.out[start + columns.start..start + columns.end];
            if W == 1 {
                let known = simd.partial_load_f64s(out);
                simd.partial_store_f64s(out, simd.add_f64s(known, sums[0]));
                continue;
            }
            let (out, _) = S::as_mut_simd_f64s(out);
            for (known, &sum) in out.iter_mut().zip(sums) {
                *known = simd.add_f64s(*known, sum);
            }
        }
    }
}

struct RowsTimes<'a, E> {
    rows: &'a [&'a [E]],
    z: &'a [f64],
    lanes: usize,
    out: &'a mut [f64],
}

impl<E: Real> WithSimd for RowsTimes<'_, E> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let mut lane = 0;
        while lane < self.lanes {
            lane += self.some::<S>(simd, lane);
        }
    }
}

impl<E: Real> RowsTimes<'_, E> {
    /// The columns of `Z` from `lane` on that registers have room for; returns how many.
    #[inline(always)]
    fn some<S: Simd>(&mut self, simd: S, lane: usize) -> usize {
        let left = self.lanes - lane;
        if S::F64_LANES < 8 {
            // Sixteen registers.
            return match left {
                4.. => self.all::<S, 2, 4>(simd, lane),
                3 => self.all::<S, 3, 3>(simd, lane),
                2 => self.all::<S, 4, 2>(simd, lane),
                _ => self.all::<S, 4, 1>(simd, lane),
            };
        }
        match left {
            4.. => self.all::<S, 4, 4>(simd, lane),
            3 => self.all::<S, 8, 3>(simd, lane),
            2 => self.all::<S, 8, 2>(simd, lane),
            _ => self.all::<S, 8, 1>(simd, lane),
        }
    }

    /// All rows, `R` at a time, against `J` columns of `Z`; returns `J`.
    #[inline(always)]
    fn all<S: Simd, const R: usize, const J: usize>(&mut self, simd: S, lane: usize) -> usize {
        let whole = self.rows.len() - self.rows.len() % R;
        for row in (0..whole).step_by(R) {
            self.tile::<S, R, J>(simd, row, lane);
        }
        for row in whole..self.rows.len() {
            self.tile::<S, 1, J>(simd, row, lane);
        }
        J
    }

    #[expect(clippy::needless_range_loop, reason = "indices are registers here")]
    #[inline(always)]
    fn tile<S: Simd, const R: usize, const J: usize>(
        &mut self,
        simd: S,
        first: usize,
        lane: usize,
    ) {
        let width = self.rows[first].len();
        let rows: [_; R] = std::array::from_fn(|r| &self.rows[first + r][..width]);
        let columns: [_; J] =
            std::array::from_fn(|j| &self.z[(lane + j) * width..(lane + j + 1) * width]);
        let mut sums = [[simd.splat_f64s(0.0); J]; R];
        let whole = width - width % S::F64_LANES;
        for start in (0..whole).step_by(S::F64_LANES) {
            let at = start..start + S::F64_LANES;
            add_products::<S, E, R, J>(simd, &rows, &columns, at, &mut sums);
        }
        if whole < width {
            add_products::<S, E, R, J>(simd, &rows, &columns, whole..width, &mut sums);
        }
        for r in 0..R {
            let out = &mut self.out[(first + r) * self.lanes + lane..][..J];
            for j in 0..J {
                out[j] += simd.reduce_sum_f64s(sums[r][j]);
            }
        }
    }
}

/// Add the products of a register's width of columns.
#[inline(always)]
fn add_products<S: Simd, E: Real, const R: usize, const J: usize>(
    simd: S,
    rows: &[&[E]; R],
    columns: &[&[f64]; J],
    at: Range<usize>,
    sums: &mut [[S::f64s; J]; R],
) {
    let mut z = [simd.splat_f64s(0.0); J];
    for j in 0..J {
        [z[j]] = registers(simd, &columns[j][at.clone()]);
    }
    for r in 0..R {
        let [x] = registers(simd, &rows[r][at.clone()]);
        for j in 0..J {
            sums[r][j] = simd.mul_add_e_f64s(x, z[j], sums[r][j]);
        }
    }
}

/// The first registers of doubles; zeros follow where values end.
#[inline(always)]
pub(super) fn registers<S: Simd, E: Real, const W: usize>(simd: S, values: &[E]) -> [S::f64s; W] {
    // A loop: the closures of `array::from_fn` are not always inlined.
    let mut out = [simd.splat_f64s(0.0); W];
    for w in 0..W {
        out[w] = E::widened(simd, &values[w * S::F64_LANES..]);
    }
    out
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use pulp::{Scalar, x86::V3};

    use super::*;

    /// Rows, width, columns; the last one lies beyond the cache.
    const SHAPES: [(usize, usize, usize); 6] = [
        (1, 1, 1),
        (3, 7, 2),
        (17, 33, 3),
        (40, 70, 5),
        (19, 50, 11),
        (2000, 41, 9),
    ];
    const N_LEVELS: usize = 3;

    /// Without instructions for vectors, with those of AVX2, with the machine's best.
    fn at_level<O: WithSimd>(level: usize, op: O) -> O::Output {
        match (level, V3::try_new()) {
            (0, _) => Scalar::new().vectorize(op),
            (1, Some(simd)) => Simd::vectorize(simd, op),
            _ => Arch::new().dispatch(op),
        }
    }

    fn numbers(n: usize, seed: f64) -> Vec<f64> {
        (0..n).map(|i| (seed + 7.0 * i as f64).sin()).collect()
    }

    fn is_close(got: &[f64], want: impl Fn(usize) -> f64) -> bool {
        got.iter()
            .enumerate()
            .all(|(i, got)| (got - want(i)).abs() < 1e-11)
    }

    fn agrees<E: Real>(narrow: impl Fn(f64) -> E) {
        for (n, width, lanes) in SHAPES {
            let panel: Vec<E> = numbers(n * width, 0.3).into_iter().map(&narrow).collect();
            let rows: Vec<&[E]> = panel.chunks(width).collect();
            let b = |i: usize, k: usize| -> f64 { rows[i][k].into() };
            let (u, z) = (numbers(n * lanes, 0.7), numbers(lanes * width, 0.9));
            for level in 0..N_LEVELS {
                let mut out = vec![1.0; lanes * width];
                let (rows, lanes) = (rows.as_slice(), lanes);
                at_level(
                    level,
                    ColumnsTimes {
                        rows,
                        u: &u,
                        lanes,
                        out: &mut out,
                    },
                );
                assert!(is_close(&out, |at| {
                    let (j, k) = (at / width, at % width);
                    1.0 + (0..n).map(|i| b(i, k) * u[i * lanes + j]).sum::<f64>()
                }));
                let mut out = vec![1.0; n * lanes];
                at_level(
                    level,
                    RowsTimes {
                        rows,
                        z: &z,
                        lanes,
                        out: &mut out,
                    },
                );
                assert!(is_close(&out, |at| {
                    let (i, j) = (at / lanes, at % lanes);
                    1.0 + (0..width).map(|k| b(i, k) * z[j * width + k]).sum::<f64>()
                }));
            }
        }
    }

    #[test]
    fn every_instruction_set_agrees_with_the_definition() {
        agrees(|value| value);
        agrees(|value| value as f32);
    }
}
