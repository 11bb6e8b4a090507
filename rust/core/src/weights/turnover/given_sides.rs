//! The nearest book once every asset has its side: a convex quadratic programme.

use std::cmp::Ordering;

use super::super::side::{Groups, Slack};
use super::{EXACT, Quality, Walk};

impl Walk<'_> {
    /// The nearest book with given sides; `None` when the budget does not reach the caps.
    pub(super) fn attempt(
        &mut self,
        assets: &[usize],
        wanted: &[f64],
        is_long: &[bool],
    ) -> Option<Quality> {
        let (cap, groups) = (self.exposure.cap, self.limits());
        let mut spent = self.fill(assets, wanted, is_long);
        if let Some(groups) = groups {
            spent += self.long.trim_groups(cap, groups) + self.short.trim_groups(cap, groups);
        }
        let budget = self.limit - spent;
        if budget < -EXACT {
            return None;
        }
        let mut step = 1.0f64;
        let mut gap = 0.0;
        for (side, target) in [
            (&mut self.long, self.exposure.long),
            (&mut self.short, self.exposure.short),
        ] {
            let (now, most) = (side.held_mass(), side.capacity(cap, groups));
            gap += (target - now).abs();
            if target > most {
                step = step.min(((most - now) / (target - now)).max(0.0));
            }
        }
        if gap > 0.0 {
            step = step.min(budget.max(0.0) / gap);
        }
        let masses = [
            toward(self.long.held_mass(), self.exposure.long, step),
            toward(self.short.held_mass(), self.exposure.short, step),
        ];
        self.spend(masses, budget, budget - step * gap);
        Some(Quality {
            gap: (1.0 - step) * gap,
            distance: self.long.distance() + self.short.distance(),
        })
    }

    /// Put every asset on its side; return what closing and capping positions trades.
    fn fill(&mut self, assets: &[usize], wanted: &[f64], is_long: &[bool]) -> f64 {
        self.long.clear();
        self.short.clear();
        let mut spent = 0.0;
        for &i in assets {
            let (side, sign) = if is_long[i] {
                (&mut self.long, 1.0)
            } else {
                (&mut self.short, -1.0)
            };
            let before = sign * self.book[i];
            let held = before.clamp(0.0, self.exposure.cap);
            spent += (before - held).abs();
            let group = self.groups.map_or(0, |groups| groups.group_of[i]);
            side.push(i, sign * wanted[i], held, group);
        }
        spent
    }

    fn limits(&self) -> Option<Groups> {
        self.groups.map(|groups| Groups {
            n_groups: groups.n_groups,
            cap: groups.cap,
        })
    }

    /// Find the weights with the given masses whose turnover is at most the budget; `spare` is what
    /// the change of the masses leaves of it.
    fn spend(&mut self, masses: [f64; 2], budget: f64, spare: f64) {
        if spare <= EXACT {
            self.solve(masses, |now, next| match next.total_cmp(&now) {
                Ordering::Less => Slack::FALL,
                _ => Slack::RISE,
            });
            return;
        }
        let mut at = |price: f64| {
            self.solve(masses, |_, _| Slack {
                up: price,
                down: price,
            });
            self.long.turnover() + self.short.turnover() - budget
        };
        let (mut low, mut excess) = (0.0, at(0.0));
        if excess <= 0.0 {
            return;
        }
        let mut high = 1e-3 * (masses[0] + masses[1]);
        let mut slack = at(high);
        while slack > 0.0 && high < 1e200 {
            (low, excess) = (high, slack);
            high *= 4.0;
            slack = at(high);
        }
        // Regula falsi; the end that does not move is discounted (Illinois).
        let mut last = Ordering::Equal;
        let mut found = slack;
        let mut price = high;
        for _ in 0..200 {
            if (-EXACT..=0.0).contains(&found) || high - low <= 4.0 * f64::EPSILON * high {
                break;
            }
            price = (low * slack - high * excess) / (slack - excess);
            if !(low < price && price < high) {
                price = 0.5 * (low + high);
            }
            found = at(price);
            let side = found.total_cmp(&0.0);
            if found > 0.0 {
                (low, excess) = (price, found);
                slack *= if side == last { 0.5 } else { 1.0 };
            } else {
                (high, slack) = (price, found);
                excess *= if side == last { 0.5 } else { 1.0 };
            }
            last = side;
        }
        if found > 0.0 || price != high {
            at(high);
        }
    }

    fn solve(&mut self, masses: [f64; 2], slack: impl Fn(f64, f64) -> Slack) {
        let (cap, groups) = (self.exposure.cap, self.limits());
        for (side, mass) in [&mut self.long, &mut self.short].into_iter().zip(masses) {
            let slack = slack(side.held_mass(), mass);
            side.solve(mass, cap, groups, slack);
        }
    }
}

fn toward(now: f64, target: f64, step: f64) -> f64 {
    if step >= 1.0 {
        target
    } else {
        now + step * (target - now)
    }
}
