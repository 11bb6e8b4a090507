//! Products of a tall or wide block of rows with a matrix of a few columns.
//!
//! General matrix products pack their operands; with eight columns on one side that costs more than
//! the product itself. Here rows are read where they lie, in registers' width, and every thin matrix
//! has its columns padded to a multiple of [`PAD`].

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use crate::simd::fetch;

/// Thin matrices have a multiple of this many columns: half of the widest register.
pub(crate) const PAD: usize = 4;

/// Rows that are multiplied while their sums lie in registers; the rows after them are fetched.
pub(super) const GROUP: usize = 8;

/// So many numbers lie in the second-level cache already: all their rows are one group.
const NEAR: usize = 1 << 16;

/// `out += B'U`, transposed.
///
/// `rows` are the rows of `B`, all of length `w`; `u` holds as many rows of `pad` numbers; `out` holds
/// `pad` rows of `w`.
pub(crate) fn columns_times(rows: &[&[f64]], u: &[f64], pad: usize, out: &mut [f64]) {
    Arch::new().dispatch(ColumnsTimes { rows, u, pad, out });
}

/// `out += B Z`.
///
/// `rows` are the rows of `B`, all of length `w`; `z` holds the transpose of `Z`, `pad` rows of `w`;
/// `out` holds `pad` numbers for every row of `B`.
pub(crate) fn rows_times(rows: &[&[f64]], z: &[f64], pad: usize, out: &mut [f64]) {
    Arch::new().dispatch(RowsTimes { rows, z, pad, out });
}

struct ColumnsTimes<'a> {
    rows: &'a [&'a [f64]],
    u: &'a [f64],
    pad: usize,
    out: &'a mut [f64],
}

impl WithSimd for ColumnsTimes<'_> {
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
struct Group<'a> {
    rows: &'a [&'a [f64]],
    ahead: &'a [&'a [f64]],
    u: &'a [f64],
    pad: usize,
    width: usize,
    out: &'a mut [f64],
}

impl Group<'_> {
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

    #[inline(always)]
    fn tile<S: Simd, const J: usize, const W: usize>(
        &mut self,
        simd: S,
        lane: usize,
        columns: Range<usize>,
    ) {
        let mut sums = [[simd.splat_f64s(0.0); W]; J];
        for (index, (row, u)) in self
            .rows
            .iter()
            .zip(self.u.chunks_exact(self.pad))
            .enumerate()
        {
            if lane == 0
                && let Some(ahead) = self.ahead.get(index)
            {
                fetch(&ahead[columns.clone()]);
            }
            let row = &row[columns.clone()];
            let x: [_; W] = if W > 1 {
                let (x, _) = S::as_simd_f64s(row);
                std::array::from_fn(|w| x[w])
            } else {
                [simd.partial_load_f64s(row); W]
            };
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

struct RowsTimes<'a> {
    rows: &'a [&'a [f64]],
    z: &'a [f64],
    pad: usize,
    out: &'a mut [f64],
}

impl WithSimd for RowsTimes<'_> {
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

impl RowsTimes<'_> {
    /// `R` rows against four columns of `Z`.
    #[inline(always)]
    fn tile<S: Simd, const R: usize>(&mut self, simd: S, first: usize, lane: usize) {
        let width = self.rows[first].len();
        let rows: [_; R] = std::array::from_fn(|r| S::as_simd_f64s(&self.rows[first + r][..width]));
        let columns: [_; PAD] = std::array::from_fn(|j| {
            S::as_simd_f64s(&self.z[(lane + j) * width..(lane + j + 1) * width])
        });
        let whole = rows[0].0.len();
        let mut sums = [[simd.splat_f64s(0.0); PAD]; R];
        for at in 0..whole {
            for r in 0..R {
                let x = rows[r].0[at];
                for j in 0..PAD {
                    sums[r][j] = simd.mul_add_e_f64s(x, columns[j].0[at], sums[r][j]);
                }
            }
        }
        for r in 0..R {
            for j in 0..PAD {
                let rest: f64 = rows[r].1.iter().zip(columns[j].1).map(|(x, z)| x * z).sum();
                let out = &mut self.out[(first + r) * self.pad + lane + j];
                *out += simd.reduce_sum_f64s(sums[r][j]) + rest;
            }
        }
    }
}
