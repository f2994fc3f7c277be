//! A lookup table of a function's results for all combinations of small numbers.

pub struct LookupTable<const D: usize, T> {
    sides: [usize; D],
    cells: Vec<T>,
}

impl<const D: usize, T: Copy> LookupTable<D, T> {
    /// Computes the result of each combination once.
    pub fn new(sides: [usize; D], function: impl Fn([usize; D]) -> T) -> Self {
        let count = sides.iter().product();
        let coordinates = |mut cell: usize| {
            let mut coordinates = [0; D];
            for n in (0..D).rev() {
                coordinates[n] = cell % sides[n];
                cell /= sides[n];
            }
            coordinates
        };
        Self { sides, cells: (0..count).map(|cell| function(coordinates(cell))).collect() }
    }

    pub fn at(&self, coordinates: [usize; D]) -> T {
        let sides = self.sides.iter().zip(coordinates);
        let cell = sides.fold(0, |cell, (side, n)| cell * side + n);
        self.cells[cell]
    }
}
