//! Products of a tall or wide block of rows with a matrix of a few columns.
//!
//! General matrix products pack their operands; with eight columns on one side that costs more than
//! the product itself. Here rows are read where they lie, in registers' width, and every thin matrix
//! has its columns padded to a multiple of [`PAD`].

use pulp::{Arch, Simd, WithSimd};

use crate::simd::fetch;

/// Thin matrices have a multiple of this many columns: half of the widest register.
pub(crate) const PAD: usize = 4;

/// `out += B'U`, transposed.
///
/// `rows` are the rows of `B`, all of length `w`; `u` holds as many rows of `pad` numbers; `out` holds
/// `pad` rows of `w`. The first half of the rows of `next` is fetched from memory meanwhile.
pub(crate) fn columns_times(
    rows: &[&[f64]],
    next: &[&[f64]],
    u: &[f64],
    pad: usize,
    out: &mut [f64],
) {
    Arch::new().dispatch(ColumnsTimes {
        rows,
        next,
        u,
        pad,
        out,
    });
}

/// `out += B Z`.
///
/// `rows` are the rows of `B`, all of length `w`; `z` holds the transpose of `Z`, `pad` rows of `w`;
/// `out` holds `pad` numbers for every row of `B`. The second half of the rows of `next` is fetched
/// meanwhile.
pub(crate) fn rows_times(rows: &[&[f64]], next: &[&[f64]], z: &[f64], pad: usize, out: &mut [f64]) {
    Arch::new().dispatch(RowsTimes {
        rows,
        next,
        z,
        pad,
        out,
    });
}

struct ColumnsTimes<'a> {
    rows: &'a [&'a [f64]],
    next: &'a [&'a [f64]],
    u: &'a [f64],
    pad: usize,
    out: &'a mut [f64],
}

impl WithSimd for ColumnsTimes<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let width = self.rows.first().map_or(0, |row| row.len());
        let step = 2 * S::F64_LANES;
        let whole = width - width % step;
        // Sixteen registers hold four columns of sums, thirty-two hold eight.
        let eight = S::F64_LANES >= 8 && self.pad.is_multiple_of(8);
        for first in (0..self.pad).step_by(if eight { 8 } else { 4 }) {
            for column in (0..whole).step_by(step) {
                if eight {
                    self.tile::<S, 8>(simd, column, first, width);
                } else {
                    self.tile::<S, 4>(simd, column, first, width);
                }
            }
        }
        self.rest(whole, width);
    }
}

impl ColumnsTimes<'_> {
    /// Two registers' width of columns against `J` columns of `u`.
    #[inline(always)]
    fn tile<S: Simd, const J: usize>(&mut self, simd: S, column: usize, j: usize, width: usize) {
        let step = 2 * S::F64_LANES;
        let mut sums = [[simd.splat_f64s(0.0); 2]; J];
        let ahead = column / 2..column / 2 + S::F64_LANES;
        for (index, (row, u)) in self
            .rows
            .iter()
            .zip(self.u.chunks_exact(self.pad))
            .enumerate()
        {
            if let Some(next) = self.next.get(index) {
                next.get(ahead.clone()).into_iter().for_each(fetch);
            }
            let (x, _) = S::as_simd_f64s(&row[column..column + step]);
            let (left, right, u) = (x[0], x[1], &u[j..j + J]);
            for lane in 0..J {
                let weight = simd.splat_f64s(u[lane]);
                sums[lane][0] = simd.mul_add_e_f64s(weight, left, sums[lane][0]);
                sums[lane][1] = simd.mul_add_e_f64s(weight, right, sums[lane][1]);
            }
        }
        for (lane, sum) in sums.iter().enumerate() {
            let start = (j + lane) * width + column;
            let (out, _) = S::as_mut_simd_f64s(&mut self.out[start..start + step]);
            out[0] = simd.add_f64s(out[0], sum[0]);
            out[1] = simd.add_f64s(out[1], sum[1]);
        }
    }

    /// The columns that do not fill two registers.
    #[inline(always)]
    fn rest(&mut self, whole: usize, width: usize) {
        for (row, u) in self.rows.iter().zip(self.u.chunks_exact(self.pad)) {
            for (column, &x) in row.iter().enumerate().skip(whole) {
                for (lane, weight) in u.iter().enumerate() {
                    self.out[lane * width + column] += weight * x;
                }
            }
        }
    }
}

struct RowsTimes<'a> {
    rows: &'a [&'a [f64]],
    next: &'a [&'a [f64]],
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
                if lane == 0 {
                    for next in self.next.iter().skip(row).take(tile) {
                        fetch(&next[next.len() / 2..]);
                    }
                }
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
