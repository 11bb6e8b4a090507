//! Candidate rows of one date, and their packing.

use std::marker::PhantomData;

use ndarray::{ArrayView1, ArrayView2};

use super::MAX_BLOCK;
use super::Packed;
use super::lanes::{Lanes, LoadFrom};
use crate::gram::Plan;
use crate::real::Real;

/// The rows of one date: characteristics, return and, where there is one, mask.
///
/// Any strides. The views must have the same number of rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows<'a, Z, R> {
    pub(super) z: *const Z,
    pub(super) z_row: isize,
    pub(super) z_column: isize,
    pub(super) n_characteristics: usize,
    pub(super) r: *const R,
    pub(super) r_row: isize,
    pub(super) mask: *const u8,
    pub(super) mask_row: isize,
    pub(super) n: usize,
    views: PhantomData<(&'a Z, &'a R)>,
}

impl<'a, Z: Real, R: Real> Rows<'a, Z, R> {
    /// Borrow the rows; they end with the shortest of the views.
    pub(crate) fn new(
        characteristics: &ArrayView2<'a, Z>,
        returns: &ArrayView1<'a, R>,
        mask: Option<&ArrayView1<'a, u8>>,
    ) -> Self {
        let n = characteristics.nrows().min(returns.len());
        Self {
            z: characteristics.as_ptr(),
            z_row: characteristics.strides()[0],
            z_column: characteristics.strides()[1],
            n_characteristics: characteristics.ncols(),
            r: returns.as_ptr(),
            r_row: returns.strides()[0],
            mask: mask.map_or(std::ptr::null(), |m| m.as_ptr()),
            mask_row: mask.map_or(0, |m| m.strides()[0]),
            n: mask.map_or(n, |m| n.min(m.len())),
            views: PhantomData,
        }
    }

    /// Number of candidates.
    pub(crate) fn len(&self) -> usize {
        self.n
    }

    /// Candidates `from .. to`, as far as there are.
    pub(crate) fn part(&self, from: usize, to: usize) -> Self {
        let (to, skip) = (to.min(self.n), from as isize);
        Self {
            z: self.z.wrapping_offset(skip * self.z_row),
            r: self.r.wrapping_offset(skip * self.r_row),
            mask: self.mask.wrapping_offset(skip * self.mask_row),
            n: to.saturating_sub(from),
            ..*self
        }
    }

    /// Whether a characteristic, or beyond the last one the return, is zero in every usable row.
    pub(crate) fn is_zero(&self, column: usize) -> bool {
        (0..self.n).all(|i| {
            // SAFETY: `i` is a candidate; a masked one is not read.
            unsafe {
                let Some(value) = self.usable_return(i) else {
                    return true;
                };
                let row = self.z.offset(i as isize * self.z_row);
                let cell = |l: usize| -> f64 { (*row.offset(l as isize * self.z_column)).into() };
                let columns = 0..self.n_characteristics;
                let x = if columns.contains(&column) {
                    cell(column)
                } else {
                    value
                };
                x == 0.0 || columns.into_iter().any(|l| !cell(l).is_finite())
            }
        })
    }

    /// Where candidate `i` starts and how many bytes there are from one to the next; zero bytes
    /// where rows do not lie one after the other.
    pub(crate) fn address(&self, i: usize) -> (*const u8, usize) {
        let bytes = self.z_row * size_of::<Z>() as isize;
        let start = self.z.cast::<u8>().wrapping_offset(bytes * i as isize);
        match usize::try_from(bytes) {
            Ok(bytes) if self.z_column == 1 => (start, bytes),
            _ => (start, 0),
        }
    }

    /// The return of candidate `i`, unless it is masked or not finite.
    #[inline(always)]
    unsafe fn usable_return(&self, i: usize) -> Option<f64> {
        let i = i as isize;
        if !self.mask.is_null() && *self.mask.offset(i * self.mask_row) == 0 {
            return None;
        }
        let value: f64 = (*self.r.offset(i * self.r_row)).into();
        value.is_finite().then_some(value)
    }
}

/// Candidates that are copied together: one panel of all of them, then the next, while the source
/// stays in the first-level cache.
const BUNCH: usize = 16;

/// Pack usable rows until the block is full or the candidates end.
///
/// Candidates with a usable return are copied bunch by bunch, with one mark for non-finite values
/// kept over all of them; only if it is set, rows are judged one by one and the gaps closed.
///
/// # Safety
///
/// `packed` must have the length of the plan, whose panels must be for `V` and whose columns must
/// be those of `rows`; `from <= rows.len()`.
#[inline(always)]
pub(super) unsafe fn pack<V: LoadFrom<Z>, Z: Real, R: Real>(
    plan: &Plan,
    packed: *mut V::Scalar,
    rows: &Rows<'_, Z, R>,
    from: usize,
) -> Packed {
    let mut block = Block::<V> {
        packed,
        stride: plan.panel_stride(),
        n_panels: plan.n_panels(),
        constant: plan.constant(),
        n: 0,
    };
    let mut candidates = [0; MAX_BLOCK];
    let mut next = from;
    while block.n < plan.block() && next < rows.n {
        let wanted = &mut candidates[..plan.block() - block.n];
        let found;
        (found, next) = rows.find(wanted, next);
        let found = &candidates[..found];
        let clean = if rows.z_column == 1 {
            block.copy(rows, found)
        } else {
            block.gather(rows, found)
        };
        block.n = if clean {
            block.n + found.len()
        } else {
            block.close_gaps(found.len())
        };
    }
    Packed { n: block.n, next }
}

/// Rows being packed.
struct Block<V: Lanes> {
    packed: *mut V::Scalar,
    /// Scalars from one panel to the next.
    stride: usize,
    n_panels: usize,
    constant: bool,
    /// Rows so far.
    n: usize,
}

impl<V: Lanes> Block<V> {
    /// Where a column lies, relative to its row.
    fn slot(&self, column: usize) -> usize {
        column / V::WIDTH * self.stride + column % V::WIDTH
    }

    /// The `row`-th row after those packed so far.
    #[inline(always)]
    unsafe fn row(&self, row: usize) -> *mut V::Scalar {
        self.packed.add((self.n + row) * V::WIDTH)
    }

    /// Copy contiguous characteristics, with constant and return; whether all are finite.
    #[inline(always)]
    unsafe fn copy<Z: Real, R: Real>(&self, rows: &Rows<'_, Z, R>, found: &[usize]) -> bool
    where
        V: LoadFrom<Z>,
    {
        let (full, rest) = (
            rows.n_characteristics / V::WIDTH,
            rows.n_characteristics % V::WIDTH,
        );
        let (z, z_row) = (rows.z, rows.z_row);
        let tails = self.tails(rows.n_characteristics);
        let mut mark = V::zero();
        let mut out = self.row(0);
        for bunch in found.chunks(BUNCH) {
            for panel in 0..full {
                let z = z.wrapping_add(panel * V::WIDTH);
                let out = out.add(panel * self.stride);
                for (row, &candidate) in bunch.iter().enumerate() {
                    let x = V::load_from(z.offset(candidate as isize * z_row));
                    mark = x.mark_non_finite(mark);
                    x.store(out.add(row * V::WIDTH));
                }
            }
            let tail = z.wrapping_add(full * V::WIDTH);
            self.finish(rows, bunch, out, &tails, |candidate, x| {
                if rest == 0 {
                    return x;
                }
                let z = V::load_first(tail.offset(candidate as isize * z_row), rest);
                mark = z.mark_non_finite(mark);
                x.plus(z)
            });
            out = out.add(bunch.len() * V::WIDTH);
        }
        mark.is_zero()
    }

    /// The same for characteristics that lie apart.
    #[inline(always)]
    unsafe fn gather<Z: Real, R: Real>(&self, rows: &Rows<'_, Z, R>, found: &[usize]) -> bool {
        let mut mark = 0.0;
        let tails = self.tails(rows.n_characteristics);
        let mut out = self.row(0);
        for bunch in found.chunks(BUNCH) {
            self.finish(rows, bunch, out, &tails, |_, x| x);
            for column in 0..rows.n_characteristics {
                let source = rows.z.offset(column as isize * rows.z_column);
                let out = out.add(self.slot(column));
                for (row, &candidate) in bunch.iter().enumerate() {
                    let x = (*source.offset(candidate as isize * rows.z_row)).into();
                    mark += x * 0.0;
                    *out.add(row * V::WIDTH) = V::Scalar::nearest(x);
                }
            }
            out = out.add(bunch.len() * V::WIDTH);
        }
        mark == 0.0
    }

    /// The constant, and a one in place of the return, in the panels that hold them: the first of
    /// which a characteristic may share, and one more.
    #[inline(always)]
    unsafe fn tails(&self, n_characteristics: usize) -> [(V, V); 2] {
        let first = n_characteristics % V::WIDTH;
        let mut tails = [(V::zero(), V::zero()); 2];
        // Not `map`, which is not inlined and then lacks the instruction set.
        for (panel, (one, at_return)) in tails.iter_mut().enumerate() {
            let lane = first.wrapping_sub(panel * V::WIDTH);
            if self.constant {
                *one = V::unit(lane);
            }
            *at_return = V::unit(lane.wrapping_add(usize::from(self.constant)));
        }
        tails
    }

    /// Write the panels that hold constant and return; `with` adds the characteristics to the first.
    #[inline(always)]
    unsafe fn finish<Z: Real, R: Real>(
        &self,
        rows: &Rows<'_, Z, R>,
        bunch: &[usize],
        out: *mut V::Scalar,
        tails: &[(V, V); 2],
        mut with: impl FnMut(usize, V) -> V,
    ) {
        let first = rows.n_characteristics / V::WIDTH;
        let (r, r_row) = (rows.r, rows.r_row);
        for (panel, &(constant, at_return)) in (first..self.n_panels).zip(tails) {
            let out = out.add(panel * self.stride);
            for (row, &candidate) in bunch.iter().enumerate() {
                let value = V::Scalar::nearest((*r.offset(candidate as isize * r_row)).into());
                let mut x = constant.mul_add(at_return, V::splat(&raw const value));
                if panel == first {
                    x = with(candidate, x);
                }
                x.store(out.add(row * V::WIDTH));
            }
        }
    }

    /// Keep the finite ones of `n` new rows; the number of rows there are then.
    #[inline(always)]
    unsafe fn close_gaps(&self, n: usize) -> usize {
        let mut kept = self.n;
        for row in self.n..self.n + n {
            let mut mark = V::zero();
            for panel in 0..self.n_panels {
                let panel = self.packed.add(panel * self.stride);
                let x = V::load(panel.add(row * V::WIDTH));
                mark = x.mark_non_finite(mark);
                // Onto itself or a row that was dropped.
                x.store(panel.add(kept * V::WIDTH));
            }
            kept += usize::from(mark.is_zero());
        }
        kept
    }
}
