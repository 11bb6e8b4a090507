//! Products of a tall or wide block of rows with a matrix of a few columns.
//!
//! General matrix products pack their operands; with eight columns on one side that costs more than
//! the product itself. Here rows are read where they lie, in registers' width, and every thin matrix
//! has its columns padded to a multiple of [`PAD`].

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use crate::Real;
use crate::simd::fetch_far;

/// Thin matrices have a multiple of this many columns: half of the widest register.
pub(crate) const PAD: usize = 4;

/// Places of a sum that is kept by register lane: as many as the widest register has.
pub(super) const LANES: usize = 8;

/// Rows that are multiplied while their sums lie in registers; the rows after them are fetched.
const GROUP: usize = 16;

/// So many numbers lie in the second-level cache already: all their rows are one group.
const NEAR: usize = 1 << 16;

/// `out += B'U`, transposed.
///
/// `rows` are the rows of `B`, all of length `w`; `u` holds as many rows of `pad` numbers; `out` holds
/// `pad` rows of `w`.
pub(crate) fn columns_times<E: Real>(rows: &[&[E]], u: &[f64], pad: usize, out: &mut [f64]) {
    Arch::new().dispatch(ColumnsTimes { rows, u, pad, out });
}

/// `out += B Z`, each sum by register lane: [`folded`] adds the lanes up.
///
/// `rows` are the rows of `B`, all of length `w`; `z` holds the transpose of `Z`, `pad` rows of `w`;
/// `out` holds `pad` sums of [`LANES`] numbers for every row of `B`.
pub(crate) fn rows_times<E: Real>(rows: &[&[E]], z: &[f64], pad: usize, out: &mut [f64]) {
    Arch::new().dispatch(RowsTimes { rows, z, pad, out });
}

/// Sums of [`LANES`] numbers each.
pub(super) fn folded(lanes: &[f64]) -> Vec<f64> {
    let mut out = vec![0.0; lanes.len() / LANES];
    Arch::new().dispatch(
        #[inline(always)]
        || {
            for (sum, v) in out.iter_mut().zip(lanes.chunks_exact(LANES)) {
                *sum = ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
            }
        },
    );
    out
}

struct ColumnsTimes<'a, E> {
    rows: &'a [&'a [E]],
    u: &'a [f64],
    pad: usize,
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
        let groups = self.rows.chunks(size).zip(self.u.chunks(size * self.pad));
        for (index, (rows, u)) in groups.enumerate() {
            let ahead = &self.rows[self.rows.len().min((index + 1) * size)..];
            let mut group = Group {
                rows,
                ahead: &ahead[..ahead.len().min(rows.len())],
                fetching: &[],
                u,
                pad: self.pad,
                width,
                out: &mut *self.out,
            };
            // Sixteen registers hold eight sums, thirty-two hold sixteen.
            if S::F64_LANES < 8 {
                group.lanes::<S, 4, 2>(simd, 0..self.pad);
                continue;
            }
            let eights = self.pad - self.pad % 8;
            group.lanes::<S, 8, 2>(simd, 0..eights);
            group.lanes::<S, 4, 4>(simd, eights..self.pad);
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
    pad: usize,
    width: usize,
    out: &'a mut [f64],
}

impl<E: Real> Group<'_, E> {
    /// `J` columns of `u` at a time, against `W` registers' width of the rows.
    #[inline(always)]
    fn lanes<S: Simd, const J: usize, const W: usize>(&mut self, simd: S, lanes: Range<usize>) {
        let (many, one) = (W * S::F64_LANES, S::F64_LANES);
        let (most, whole) = (
            self.width - self.width % many,
            self.width - self.width % one,
        );
        for lane in lanes.step_by(J) {
            for column in (0..most).step_by(many) {
                self.tile::<S, J, W>(simd, lane, column..column + many);
            }
            for column in (most..self.width).step_by(one) {
                let end = if column < whole {
                    column + one
                } else {
                    self.width
                };
                self.tile::<S, J, 1>(simd, lane, column..end);
            }
        }
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
        for (row, u) in self.rows.iter().zip(self.u.chunks_exact(self.pad)) {
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
    pad: usize,
    out: &'a mut [f64],
}

impl<E: Real> WithSimd for RowsTimes<'_, E> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        // Thirty-two registers hold the sums of four rows, sixteen those of two.
        let tile = if S::F64_LANES >= 8 { 4 } else { 2 };
        let whole = self.rows.len() - self.rows.len() % tile;
        for lane in (0..self.pad).step_by(PAD) {
            for row in (0..whole).step_by(tile) {
                if tile == 4 {
                    self.tile::<S, 4>(simd, row, lane);
                } else {
                    self.tile::<S, 2>(simd, row, lane);
                }
            }
            for row in whole..self.rows.len() {
                self.tile::<S, 1>(simd, row, lane);
            }
        }
    }
}

impl<E: Real> RowsTimes<'_, E> {
    /// `R` rows against four columns of `Z`.
    #[expect(clippy::needless_range_loop, reason = "indices are registers here")]
    #[inline(always)]
    fn tile<S: Simd, const R: usize>(&mut self, simd: S, first: usize, lane: usize) {
        let width = self.rows[first].len();
        let rows: [_; R] = std::array::from_fn(|r| &self.rows[first + r][..width]);
        let columns: [_; PAD] =
            std::array::from_fn(|j| &self.z[(lane + j) * width..(lane + j + 1) * width]);
        let place = |r: usize, j: usize| ((first + r) * self.pad + lane + j) * LANES;
        let mut sums = [[simd.splat_f64s(0.0); PAD]; R];
        for r in 0..R {
            for j in 0..PAD {
                sums[r][j] = S::as_simd_f64s(&self.out[place(r, j)..][..LANES]).0[0];
            }
        }
        let whole = width - width % S::F64_LANES;
        for start in (0..whole).step_by(S::F64_LANES) {
            let at = start..start + S::F64_LANES;
            add_products::<S, E, R>(simd, &rows, &columns, at, &mut sums);
        }
        if whole < width {
            add_products::<S, E, R>(simd, &rows, &columns, whole..width, &mut sums);
        }
        for r in 0..R {
            for j in 0..PAD {
                let out = &mut self.out[place(r, j)..][..LANES];
                S::as_mut_simd_f64s(out).0[0] = sums[r][j];
            }
        }
    }
}

/// Add the products of a register's width of columns.
#[inline(always)]
fn add_products<S: Simd, E: Real, const R: usize>(
    simd: S,
    rows: &[&[E]; R],
    columns: &[&[f64]; PAD],
    at: Range<usize>,
    sums: &mut [[S::f64s; PAD]; R],
) {
    let mut z = [simd.splat_f64s(0.0); PAD];
    for j in 0..PAD {
        [z[j]] = registers(simd, &columns[j][at.clone()]);
    }
    for r in 0..R {
        let [x] = registers(simd, &rows[r][at.clone()]);
        for j in 0..PAD {
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
