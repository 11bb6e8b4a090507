//! Register tiles of the symmetric product.

use super::lanes::Lanes;
use super::{Ahead, most_rows, shape_of};
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
        match tile.panels {
            3 if V::PANELS >= 3 => block.tile_of_width::<3>(tile, sums, ahead),
            2 if V::PANELS >= 2 => block.tile_of_width::<2>(tile, sums, ahead),
            _ => block.tile_of_width::<1>(tile, sums, ahead),
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
    #[inline(always)]
    unsafe fn tile_of_width<const N: usize>(&self, tile: &Tile, sums: *mut f64, ahead: Ahead) {
        let most = const { most_rows::<V>(N) };
        let halves = V::Half::WIDTH < V::WIDTH;
        let (tall, wide, eight) = (most == 16, most >= 8, halves && V::WIDTH == 8);
        match (tile.rows, tile.half_from) {
            (16, 8) if tall => self.tile::<16, N, 8>(tile, sums, ahead),
            (15, 8) if tall => self.tile::<15, N, 8>(tile, sums, ahead),
            (14, 8) if tall => self.tile::<14, N, 8>(tile, sums, ahead),
            (13, 8) if tall => self.tile::<13, N, 8>(tile, sums, ahead),
            (12, 8) if tall => self.tile::<12, N, 8>(tile, sums, ahead),
            (11, 8) if tall => self.tile::<11, N, 8>(tile, sums, ahead),
            (10, 8) if tall => self.tile::<10, N, 8>(tile, sums, ahead),
            (9, 8) if tall => self.tile::<9, N, 8>(tile, sums, ahead),
            (8, 0) if halves => self.tile::<8, N, 0>(tile, sums, ahead),
            (8, 4) if eight => self.tile::<8, N, 4>(tile, sums, ahead),
            (7, 4) if eight => self.tile::<7, N, 4>(tile, sums, ahead),
            (6, 4) if eight => self.tile::<6, N, 4>(tile, sums, ahead),
            (5, 4) if eight => self.tile::<5, N, 4>(tile, sums, ahead),
            // Without leaving a half out, which is always right.
            (8, _) if wide => self.tile::<8, N, 8>(tile, sums, ahead),
            (7, _) if wide => self.tile::<7, N, 7>(tile, sums, ahead),
            (6, _) if wide => self.tile::<6, N, 6>(tile, sums, ahead),
            (5, _) if wide => self.tile::<5, N, 5>(tile, sums, ahead),
            (4, _) => self.tile::<4, N, 4>(tile, sums, ahead),
            (3, _) => self.tile::<3, N, 3>(tile, sums, ahead),
            (2, _) => self.tile::<2, N, 2>(tile, sums, ahead),
            _ => self.tile::<1, N, 1>(tile, sums, ahead),
        }
    }

    /// Products of `R` columns, as rows of the tile, with those of `N` panels.
    ///
    /// Rows from `H` on lie beyond the middle of the first of these panels: on the diagonal, where
    /// only its upper half is wanted.
    #[expect(clippy::needless_range_loop, reason = "indices are registers here")]
    #[inline(always)]
    unsafe fn tile<const R: usize, const N: usize, const H: usize>(
        &self,
        tile: &Tile,
        sums: *mut f64,
        ahead: Ahead,
    ) {
        let row = tile.row / V::WIDTH * self.stride + tile.row % V::WIDTH;
        let mut rows = self.packed.add(row);
        let mut columns = self.packed.add(tile.panel * self.stride);
        let mut fetch = ahead.start;
        let mut acc = [[V::zero(); N]; R];
        let mut half = [V::Half::zero(); R];
        for _ in 0..self.n {
            prefetch(fetch);
            fetch = fetch.wrapping_add(ahead.step);
            let mut b = [V::zero(); N];
            for (v, b) in b.iter_mut().enumerate() {
                *b = V::load(columns.add(v * self.stride));
            }
            for r in 0..R {
                let a = V::splat(rows.add(r));
                for v in usize::from(r >= H)..N {
                    acc[r][v] = acc[r][v].mul_add(a, b[v]);
                }
                if r >= H {
                    half[r] = half[r].mul_add(V::Half::splat(rows.add(r)), b[0].upper());
                }
            }
            rows = rows.add(V::WIDTH);
            columns = columns.add(V::WIDTH);
        }
        let sums = sums.add(tile.at);
        for r in 0..R {
            for v in usize::from(r >= H)..N {
                acc[r][v].add_into(sums.add((r * N + v) * V::WIDTH));
            }
            if r >= H {
                half[r].add_into(sums.add(r * N * V::WIDTH + V::WIDTH / 2));
            }
        }
    }
}

/// Hint only: never faults, never reads.
#[inline(always)]
unsafe fn prefetch(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// Bring the first so many values, and what shares their cache lines, into the second-level cache
/// while something else is computed: from far away that is quicker than into the first, which keeps
/// few requests open.
#[inline(always)]
pub(crate) fn fetch_far<E>(values: &[E], count: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in 0..(count * size_of::<E>()).div_ceil(64) {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        let at = values.as_ptr().cast::<i8>().wrapping_add(64 * line);
        // SAFETY: a prefetch of any address is harmless.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(at) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (values, count);
}
