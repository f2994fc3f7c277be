//! A site's bucket on real stores of two makes.

mod adoption;
mod expected;
mod scene;
