//! Candidate rows of one date, and their packing.

use std::marker::PhantomData;

use ndarray::{ArrayView1, ArrayView2};

use super::Packed;
use super::lanes::LoadFrom;
use crate::gram::Plan;
use crate::real::Real;

/// The rows of one date: characteristics, return and, where there is one, mask.
///
/// Any strides. The views must have the same number of rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows<'a, Z, R> {
    z: *const Z,
    z_row: isize,
    z_column: isize,
    n_characteristics: usize,
    r: *const R,
    r_row: isize,
    mask: *const u8,
    mask_row: isize,
    n: usize,
    views: PhantomData<(&'a Z, &'a R)>,
}

impl<'a, Z: Real, R: Real> Rows<'a, Z, R> {
    /// Borrow the rows; they end with the shortest of the views.
    pub(crate) fn new(
        characteristics: &ArrayView2<'a, Z>,
        returns: &ArrayView1<'a, R>,
        mask: Option<&ArrayView1<'a, bool>>,
    ) -> Self {
        let n = characteristics.nrows().min(returns.len());
        Self {
            z: characteristics.as_ptr(),
            z_row: characteristics.strides()[0],
            z_column: characteristics.strides()[1],
            n_characteristics: characteristics.ncols(),
            r: returns.as_ptr(),
            r_row: returns.strides()[0],
            mask: mask.map_or(std::ptr::null(), |m| m.as_ptr().cast()),
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

/// Pack usable rows until the block is full or the candidates end.
///
/// A row is written first and judged afterwards: a refused one is overwritten by the next.
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
    let (capacity, constant) = (plan.block(), plan.constant());
    let slot = |column: usize| column / V::WIDTH * plan.panel_stride() + column % V::WIDTH;
    let return_slot = slot(rows.n_characteristics + usize::from(constant));
    let constant_slot = slot(rows.n_characteristics);
    let (mut n, mut next) = (0, from);
    while n < capacity && next < rows.n {
        let candidate = next;
        next += 1;
        let Some(value) = rows.usable_return(candidate) else {
            continue;
        };
        let source = rows.z.offset(candidate as isize * rows.z_row);
        let row = packed.add(n * V::WIDTH);
        let finite = if rows.z_column == 1 {
            copy_row::<V, Z>(source, rows.n_characteristics, row, plan.panel_stride())
        } else {
            gather_row::<V, Z, R>(source, rows, row, plan.panel_stride())
        };
        if constant {
            *row.add(constant_slot) = V::Scalar::nearest(1.0);
        }
        *row.add(return_slot) = V::Scalar::nearest(value);
        n += usize::from(finite);
    }
    Packed { n, next }
}

/// Copy contiguous characteristics to their panels; whether all are finite.
#[inline(always)]
unsafe fn copy_row<V: LoadFrom<Z>, Z: Real>(
    source: *const Z,
    n: usize,
    row: *mut V::Scalar,
    stride: usize,
) -> bool {
    let (full, rest) = (n / V::WIDTH, n % V::WIDTH);
    let mut mark = V::zero();
    for v in 0..full {
        let x = V::load_from(source.add(v * V::WIDTH));
        mark = x.mark_non_finite(mark);
        x.store(row.add(v * stride));
    }
    if rest > 0 {
        let x = V::load_first(source.add(full * V::WIDTH), rest);
        mark = x.mark_non_finite(mark);
        x.store(row.add(full * stride));
    }
    mark.is_zero()
}

/// The same for characteristics that lie apart.
#[inline(always)]
unsafe fn gather_row<V: LoadFrom<Z>, Z: Real, R: Real>(
    source: *const Z,
    rows: &Rows<'_, Z, R>,
    row: *mut V::Scalar,
    stride: usize,
) -> bool {
    let mut mark = 0.0;
    for column in 0..rows.n_characteristics {
        let x: f64 = (*source.offset(column as isize * rows.z_column)).into();
        mark += x * 0.0;
        *row.add(column / V::WIDTH * stride + column % V::WIDTH) = V::Scalar::nearest(x);
    }
    mark == 0.0
}
