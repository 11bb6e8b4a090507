//! Register tiles of the symmetric product.

use super::lanes::Lanes;
use super::{Ahead, TileShape, shape_of};
use crate::gram::{Plan, Tile};

/// Add the products of `n` packed rows to the sums of every tile.
///
/// # Safety
///
/// `packed` and `sums` must have the lengths of the plan, whose tiles must be for `V`.
#[inline(always)]
pub(super) unsafe fn multiply<V: Lanes>(
    plan: &Plan,
    packed: *const V::Scalar,
    n: usize,
    sums: *mut f64,
    mut ahead: Ahead,
) {
    debug_assert_eq!(plan.shape(), const { shape_of::<V>() });
    let block = Block::<V> {
        packed,
        stride: plan.panel_stride(),
        n,
    };
    for tile in plan.tiles() {
        match *tile {
            Tile::Cross {
                row,
                rows,
                panel,
                panels,
                at,
            } => {
                let sums = sums.add(at);
                match (rows, panels) {
                    (8, 3) if V::ROWS >= 8 => block.cross::<8, 3>(row, panel, sums, ahead),
                    (8, 2) if V::ROWS >= 8 => block.cross::<8, 2>(row, panel, sums, ahead),
                    (8, 1) if V::ROWS >= 8 => block.cross::<8, 1>(row, panel, sums, ahead),
                    (4, 3) if V::PANELS >= 3 => block.cross::<4, 3>(row, panel, sums, ahead),
                    (4, 2) if V::PANELS >= 2 => block.cross::<4, 2>(row, panel, sums, ahead),
                    (4, _) => block.cross::<4, 1>(row, panel, sums, ahead),
                    (3, 3) if V::PANELS >= 3 => block.cross::<3, 3>(row, panel, sums, ahead),
                    (3, 2) if V::PANELS >= 2 => block.cross::<3, 2>(row, panel, sums, ahead),
                    (3, _) => block.cross::<3, 1>(row, panel, sums, ahead),
                    (2, 3) if V::PANELS >= 3 => block.cross::<2, 3>(row, panel, sums, ahead),
                    (2, 2) if V::PANELS >= 2 => block.cross::<2, 2>(row, panel, sums, ahead),
                    (2, _) => block.cross::<2, 1>(row, panel, sums, ahead),
                    (_, 3) if V::PANELS >= 3 => block.cross::<1, 3>(row, panel, sums, ahead),
                    (_, 2) if V::PANELS >= 2 => block.cross::<1, 2>(row, panel, sums, ahead),
                    _ => block.cross::<1, 1>(row, panel, sums, ahead),
                }
            }
            Tile::Own {
                panel,
                panels,
                turns,
                at,
            } => {
                block.own_panels(panel, panels, turns, sums.add(at), ahead);
            }
        }
        ahead.start = ahead.start.wrapping_add(n * ahead.step);
    }
}

/// Packed rows.
struct Block<V: Lanes> {
    packed: *const V::Scalar,
    /// Scalars from one panel to the next.
    stride: usize,
    n: usize,
}

impl<V: Lanes> Block<V> {
    /// Products of columns `row .. row + R` with the columns of `N` panels from `panel` on.
    #[inline(always)]
    unsafe fn cross<const R: usize, const N: usize>(
        &self,
        row: usize,
        panel: usize,
        sums: *mut f64,
        ahead: Ahead,
    ) {
        let mut rows = self
            .packed
            .add(row / V::WIDTH * self.stride + row % V::WIDTH);
        let mut columns = self.packed.add(panel * self.stride);
        let mut fetch = ahead.start;
        let mut acc = [[V::zero(); N]; R];
        for _ in 0..self.n {
            prefetch(fetch);
            fetch = fetch.wrapping_add(ahead.step);
            let mut b = [V::zero(); N];
            for (v, b) in b.iter_mut().enumerate() {
                *b = V::load(columns.add(v * self.stride));
            }
            for (r, acc) in acc.iter_mut().enumerate() {
                let a = V::splat(rows.add(r));
                for (acc, b) in acc.iter_mut().zip(b) {
                    *acc = acc.mul_add(a, b);
                }
            }
            rows = rows.add(V::WIDTH);
            columns = columns.add(V::WIDTH);
        }
        for (r, acc) in acc.into_iter().enumerate() {
            for (v, acc) in acc.into_iter().enumerate() {
                acc.add_into(sums.add((r * N + v) * V::WIDTH));
            }
        }
    }

    #[inline(always)]
    unsafe fn own_panels(
        &self,
        panel: usize,
        panels: usize,
        turns: usize,
        sums: *mut f64,
        ahead: Ahead,
    ) {
        let full = V::WIDTH / 2 + 1;
        match (panels, turns) {
            (3, _) if V::OWN >= 3 && full == 3 => self.own::<3, 3>(panel, sums, ahead),
            (3, _) if V::OWN >= 3 && full == 5 => self.own::<3, 5>(panel, sums, ahead),
            (2, _) if V::OWN >= 2 && full == 3 => self.own::<2, 3>(panel, sums, ahead),
            (2, _) if V::OWN >= 2 && full == 5 => self.own::<2, 5>(panel, sums, ahead),
            (2, _) if V::OWN >= 2 && full == 9 => self.own::<2, 9>(panel, sums, ahead),
            (_, 1) => self.own::<1, 1>(panel, sums, ahead),
            (_, 2) => self.own::<1, 2>(panel, sums, ahead),
            (_, 3) => self.own::<1, 3>(panel, sums, ahead),
            (_, 4) if full >= 5 => self.own::<1, 4>(panel, sums, ahead),
            (_, 5) if full >= 5 => self.own::<1, 5>(panel, sums, ahead),
            _ if full == 9 => self.own::<1, 9>(panel, sums, ahead),
            _ => {}
        }
    }

    /// Products within each of `N` panels: the panel times itself turned by `0 .. D` lanes.
    ///
    /// Turn `d` holds in lane `i` the product of columns `i` and `i + d` (modulo the width): half
    /// the turns give every pair, where the square tile would compute most of them twice.
    #[inline(always)]
    unsafe fn own<const N: usize, const D: usize>(
        &self,
        panel: usize,
        sums: *mut f64,
        ahead: Ahead,
    ) {
        let mut columns = self.packed.add(panel * self.stride);
        let mut fetch = ahead.start;
        let mut acc = [[V::zero(); D]; N];
        for _ in 0..self.n {
            prefetch(fetch);
            fetch = fetch.wrapping_add(ahead.step);
            for (v, acc) in acc.iter_mut().enumerate() {
                let x = V::load(columns.add(v * self.stride));
                let mut turned = x;
                for (d, acc) in acc.iter_mut().enumerate() {
                    if d > 0 {
                        turned = turned.rotate();
                    }
                    *acc = acc.mul_add(x, turned);
                }
            }
            columns = columns.add(V::WIDTH);
        }
        for (v, acc) in acc.into_iter().enumerate() {
            for (d, acc) in acc.into_iter().enumerate() {
                acc.add_into(sums.add((v * D + d) * V::WIDTH));
            }
        }
    }
}

/// Hint only: never faults, never reads.
#[inline(always)]
unsafe fn prefetch(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T1>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// For the plan: turns computed for a last panel of which `columns` are in use.
pub(crate) fn turns(shape: TileShape, columns: usize) -> usize {
    let full = shape.width / 2 + 1;
    if columns >= full || columns > 5 {
        full
    } else {
        columns
    }
}
