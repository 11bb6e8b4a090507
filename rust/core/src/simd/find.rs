//! Which candidates have a usable return.

use super::Rows;
use crate::real::Real;

/// Candidates that are looked at together.
const RUN: usize = 64;

impl<Z: Real, R: Real> Rows<'_, Z, R> {
    /// Candidates with a usable return, from `next` on until `found` is full: their number, and the
    /// first candidate not looked at. Returns of masked candidates are not read.
    ///
    /// # Safety
    ///
    /// `next <= self.len()`.
    #[inline(always)]
    pub(super) unsafe fn find(&self, found: &mut [usize], mut next: usize) -> (usize, usize) {
        let mut n = 0;
        while n < found.len() && next < self.n {
            let run = RUN.min(self.n - next);
            let mut seen = self.seen(next, run);
            if run == RUN && n + RUN <= found.len() && seen == !0 && self.is_finite_run(next) {
                let run = &mut found[n..n + RUN];
                (next..).zip(run).for_each(|(i, found)| *found = i);
                n += RUN;
                next += RUN;
                continue;
            }
            let end = next + run;
            while seen != 0 && n < found.len() {
                let i = next + seen.trailing_zeros() as usize;
                seen &= seen - 1;
                // Written first and counted afterwards, so that holes cost no mispredicted branch.
                found[n] = i;
                n += usize::from((*self.r.offset(i as isize * self.r_row)).into().is_finite());
            }
            // Those still seen are left for the next block.
            next = end.min(next + seen.trailing_zeros() as usize);
        }
        (n, next)
    }

    /// One bit for each of the next `run` candidates: whether its mask is true.
    #[inline(always)]
    unsafe fn seen(&self, next: usize, run: usize) -> u64 {
        let all = !0 >> (RUN - run);
        if self.mask.is_null() {
            return all;
        }
        if run == RUN && self.mask_row == 1 {
            let bytes = self.mask.add(next);
            let eight = |i: usize| {
                let bytes = bytes.add(8 * i).cast::<u64>().read_unaligned();
                nonzero(bytes.to_le()) << (8 * i)
            };
            return (0..8).fold(0, |bits, i| bits | eight(i));
        }
        let is_seen = |i| *self.mask.offset((next + i) as isize * self.mask_row) != 0;
        (0..run).fold(0, |bits, i| bits | u64::from(is_seen(i)) << i)
    }

    /// Whether the next returns are all finite, where that is seen at a glance.
    #[inline(always)]
    unsafe fn is_finite_run(&self, next: usize) -> bool {
        // No early end: a few vector comparisons.
        let is_finite = |i| (*self.r.add(i)).into().is_finite();
        self.r_row == 1 && (next..next + RUN).fold(true, |all, i| all & is_finite(i))
    }
}

/// One bit for each of eight bytes: whether it is not zero.
#[inline(always)]
fn nonzero(bytes: u64) -> u64 {
    const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    let top = (((bytes & LOW) + LOW) | bytes) & !LOW;
    // Gathers the lowest bit of every byte into the highest byte.
    (top >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56
}
