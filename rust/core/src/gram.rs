//! The blocked symmetric product `X'X` over usable rows: which tiles, in which order, and where
//! every entry ends up.
//!
//! The columns of `X` are the characteristics, the constant when asked for, and the return, so that
//! one pass gives `Z'Z`, `Z'r` and `r'r`. Usable rows are packed a block at a time (see
//! [`crate::simd`]); groups of column panels stay in the first-level cache while every row tile
//! above the diagonal passes over them. Only the upper triangle is computed, in whole tiles off the
//! diagonal; on it, the lower left quarter of a tile is left out where half vectors are cheaper.

use rayon::prelude::*;

use crate::interrupt::{check, each_with};
use crate::real::Real;
use crate::simd::{Ahead, Level, PackFrom, Rows, Scalar, TileShape};

/// One register tile: columns `row .. row + rows` times each column of `panels` panels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tile {
    pub(crate) row: usize,
    pub(crate) rows: usize,
    pub(crate) panel: usize,
    pub(crate) panels: usize,
    /// From this row of the tile on, only the upper half of the first panel is multiplied.
    pub(crate) half_from: usize,
    /// Place of its sums.
    pub(crate) at: usize,
}

impl Tile {
    /// Vectors of sums.
    fn vectors(self) -> usize {
        self.rows * self.panels
    }

    /// The pair of packed columns whose product lane `lane` of vector `vector` holds.
    fn pair(self, vector: usize, lane: usize, width: usize) -> (usize, usize) {
        let column = (self.panel + vector % self.panels) * width + lane;
        (self.row + vector / self.panels, column)
    }
}

/// How the products of a number of columns are computed at a level; shared by all dates.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    level: Level,
    shape: TileShape,
    /// Rows of a block.
    block: usize,
    n_characteristics: usize,
    constant: bool,
    tiles: Vec<Tile>,
    n_sums: usize,
    /// Place among the sums of every entry of the result: the triangle of `Z'Z`, `Z'r`, `r'r`.
    places: Vec<u32>,
    /// The same for the square of every packed column.
    squares: Vec<u32>,
}

impl Plan {
    /// The plan for `n_characteristics` columns, computed in `C` at `level` or the best one below.
    pub(crate) fn new<C: Scalar>(level: Level, n_characteristics: usize, constant: bool) -> Self {
        // The kernels rely on this: a plan never holds a level that the machine lacks.
        let level = if Level::available().contains(&level) {
            level
        } else {
            Level::best()
        };
        let shape = C::tile_shape(level);
        let n_columns = n_characteristics + usize::from(constant) + 1;
        let mut plan = Self {
            level,
            shape,
            block: C::BLOCK,
            n_characteristics,
            constant,
            tiles: Vec::new(),
            n_sums: 0,
            places: Vec::new(),
            squares: Vec::new(),
        };
        plan.lay_tiles(n_columns);
        plan.find_places(n_columns);
        plan
    }

    /// Level of the kernels.
    pub(crate) fn level(&self) -> Level {
        self.level
    }

    /// Register tile of the level.
    pub(crate) fn shape(&self) -> TileShape {
        self.shape
    }

    /// Rows of a block.
    pub(crate) fn block(&self) -> usize {
        self.block
    }

    /// Whether a constant follows the characteristics.
    pub(crate) fn constant(&self) -> bool {
        self.constant
    }

    /// Scalars from one panel to the next; one row more than a block, so that the panels' rows do
    /// not compete for the same cache sets.
    pub(crate) fn panel_stride(&self) -> usize {
        self.shape.width * (self.block + 1)
    }

    /// Panels of a block, the last one partly filled.
    pub(crate) fn n_panels(&self) -> usize {
        (self.n_instruments() + 1).div_ceil(self.shape.width)
    }

    /// The tiles, in the order in which they are computed.
    pub(crate) fn tiles(&self) -> &[Tile] {
        &self.tiles
    }

    /// Instruments: the characteristics and the constant.
    pub(crate) fn n_instruments(&self) -> usize {
        self.n_characteristics + usize::from(self.constant)
    }

    /// Sums in the order of the result: the triangle of `Z'Z` row by row, `Z'r`, `r'r`.
    pub(crate) fn entries<'a>(&'a self, sums: &'a [f64]) -> impl Iterator<Item = f64> + 'a {
        self.places.iter().map(|&place| sums[place as usize])
    }

    /// Every packed column (characteristics, constant, return) with the sum of its squares.
    pub(crate) fn squares<'a>(
        &'a self,
        sums: &'a [f64],
    ) -> impl Iterator<Item = (usize, f64)> + 'a {
        let sum = |&place: &u32| sums[place as usize];
        self.squares.iter().map(sum).enumerate()
    }

    /// Sum and sum of squares of every characteristic, where there is a constant to tell the former.
    pub(crate) fn levels<'a>(&'a self, sums: &'a [f64]) -> impl Iterator<Item = (f64, f64)> + 'a {
        let n = if self.constant {
            self.n_characteristics
        } else {
            0
        };
        // The constant leads the triangle: its first row holds the sums.
        let totals = self.places[..=n].iter().skip(1);
        let squares = self.squares.iter();
        let sum = |&place: &u32| sums[place as usize];
        totals.map(sum).zip(squares.map(sum))
    }

    fn lay_tiles(&mut self, n_columns: usize) {
        let TileShape {
            width,
            rows,
            rows_alone,
            panels,
            ..
        } = self.shape;
        let most = |n_panels| if n_panels == 1 { rows_alone } else { rows };
        let (full, rest) = (n_columns / width, n_columns % width);
        // Groups of about the same size: a narrow last one would wait for its few sums.
        let n_groups = full.div_ceil(panels);
        for group in 0..n_groups {
            let (group, end) = (group * full / n_groups, (group + 1) * full / n_groups);
            for row in (0..group * width).step_by(rows) {
                self.push(row, rows, group, end);
            }
            // Tiles above eight rows are for the diagonal, where half a vector does for the others.
            for (row, rows) in split(rest, most(end - group).min(8)) {
                self.push(full * width + row, rows, group, end);
            }
            for panel in group..end {
                for (row, rows) in split(width, most(end - panel)) {
                    self.push(panel * width + row, rows, panel, end);
                }
            }
        }
        for (row, rows) in split(rest, rows_alone) {
            self.push(full * width + row, rows, full, full + 1);
        }
    }

    fn push(&mut self, row: usize, rows: usize, panel: usize, end: usize) {
        // On the diagonal, rows beyond the middle of the panel need its upper half only.
        let middle = panel * self.shape.width + self.shape.width / 2;
        let is_own = row / self.shape.width == panel && self.shape.halves;
        let half_from = if is_own {
            middle.saturating_sub(row).min(rows)
        } else {
            rows
        };
        let (panels, at) = (end - panel, self.n_sums);
        let tile = Tile {
            row,
            rows,
            panel,
            panels,
            half_from,
            at,
        };
        self.n_sums += tile.vectors() * self.shape.width;
        self.tiles.push(tile);
    }

    /// Where each entry of the result lies among the sums.
    fn find_places(&mut self, n_columns: usize) {
        let mut found = vec![0; n_columns * n_columns];
        for tile in &self.tiles {
            for vector in 0..tile.vectors() {
                for lane in 0..self.shape.width {
                    let (a, b) = tile.pair(vector, lane, self.shape.width);
                    // Below the diagonal of its own panel a tile holds nothing, or the same again.
                    let is_wanted = a <= b || a / self.shape.width > b / self.shape.width;
                    if is_wanted && a.max(b) < n_columns {
                        let place = tile.at + vector * self.shape.width + lane;
                        found[a.min(b) * n_columns + a.max(b)] = place as u32;
                    }
                }
            }
        }
        let place = |a: usize, b: usize| found[a.min(b) * n_columns + a.max(b)];
        let p = self.n_instruments();
        // The constant leads the instruments but follows the characteristics in a packed row.
        let column = |instrument: usize| match (self.constant, instrument) {
            (true, 0) => p - 1,
            (true, _) => instrument - 1,
            (false, _) => instrument,
        };
        let triangle = (0..p).flat_map(|i| (i..p).map(move |j| (column(i), column(j))));
        let cross = (0..=p).map(|i| (if i < p { column(i) } else { p }, p));
        self.places = triangle.chain(cross).map(|(a, b)| place(a, b)).collect();
        self.squares = (0..n_columns).map(|column| place(column, column)).collect();
    }
}

/// Cut `n` rows into tiles of the height `most`, and one lower one for what remains.
fn split(n: usize, most: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..n)
        .step_by(most)
        .map(move |row| (row, (n - row).min(most)))
}

/// A cache line: the alignment of packed rows.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
#[expect(dead_code, reason = "only its bytes are used")]
pub(crate) struct Line([f64; 8]);

/// Working memory of one thread.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    packed: Vec<Line>,
    sums: Vec<f64>,
}

impl Scratch {
    /// Packed rows and sums, of the lengths that `plan` asks for.
    pub(crate) fn parts(&mut self, plan: &Plan) -> (&mut [Line], &mut [f64]) {
        // Eight bytes hold a scalar of either type.
        let n_lines = (plan.n_panels() * plan.panel_stride()).div_ceil(8);
        if self.packed.len() < n_lines {
            // Zeros once: the lanes beyond the last column are never written.
            self.packed.resize(n_lines, Line([0.0; 8]));
        }
        if self.sums.len() != plan.n_sums {
            self.sums.clear();
            self.sums.resize(plan.n_sums, 0.0);
        }
        (&mut self.packed, &mut self.sums)
    }

    /// The sums.
    pub(crate) fn sums(&self) -> &[f64] {
        &self.sums
    }
}

/// Rows of a date that are summed in one go; the parts of a longer date run in parallel.
pub(crate) const PART: usize = 1 << 15;

/// Sum the products of the usable rows into the scratch's sums; the number of usable rows.
///
/// The candidates of a long date are cut into parts of a fixed size, whose sums are added in order:
/// the number of threads does not change a bit.
pub(crate) fn accumulate<'a, C, Z, R>(
    plan: &Plan,
    scratch: &mut Scratch,
    rows: impl Fn() -> Rows<'a, Z, R> + Sync,
) -> u32
where
    C: PackFrom<Z>,
    Z: Real,
    R: Real,
{
    let n_parts = rows().len().div_ceil(PART);
    if n_parts <= 1 {
        return accumulate_part::<C, Z, R>(plan, scratch, &rows());
    }
    let sum_part = |spare: &mut Scratch, part| {
        let rows = rows().part(part * PART, (part + 1) * PART);
        let n = accumulate_part::<C, Z, R>(plan, spare, &rows);
        (n, spare.sums.clone())
    };
    let parts: Vec<(u32, Vec<f64>)> = (0..n_parts)
        .into_par_iter()
        .map_init(Scratch::default, each_with(sum_part))
        .collect();
    let (_, total) = scratch.parts(plan);
    total.fill(0.0);
    for (_, sums) in &parts {
        total
            .iter_mut()
            .zip(sums)
            .for_each(|(total, sum)| *total += sum);
    }
    parts.iter().map(|(n, _)| n).sum()
}

fn accumulate_part<C, Z, R>(plan: &Plan, scratch: &mut Scratch, rows: &Rows<'_, Z, R>) -> u32
where
    C: PackFrom<Z>,
    Z: Real,
    R: Real,
{
    scratch.parts(plan).1.fill(0.0);
    let (mut n_rows, mut next) = (0, 0);
    while next < rows.len() {
        check();
        let packed = C::pack(plan, scratch, rows, next);
        next = packed.next;
        n_rows += packed.n as u32;
        if packed.n > 0 {
            let (start, row_bytes) = rows.address(next);
            let step = row_bytes.div_ceil(plan.tiles.len());
            C::multiply(plan, scratch, packed.n, Ahead { start, step });
        }
    }
    n_rows
}
