//! The answers of a function, for each combination of small numbers.

pub struct Grid<const D: usize, T> {
    sides: [usize; D],
    cells: Vec<T>,
}

impl<const D: usize, T: Copy> Grid<D, T> {
    /// Asks for each combination once.
    pub fn of(sides: [usize; D], answer: impl Fn([usize; D]) -> T) -> Self {
        let count = sides.iter().product();
        let place = |mut cell: usize| {
            let mut place = [0; D];
            for n in (0..D).rev() {
                place[n] = cell % sides[n];
                cell /= sides[n];
            }
            place
        };
        Self { sides, cells: (0..count).map(|cell| answer(place(cell))).collect() }
    }

    pub fn at(&self, place: [usize; D]) -> T {
        let sides = self.sides.iter().zip(place);
        let cell = sides.fold(0, |cell, (side, n)| cell * side + n);
        self.cells[cell]
    }
}
