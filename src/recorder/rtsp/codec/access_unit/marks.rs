//! How a camera uses the marker.

/// Use of the marker, which ends a picture in the standards (RFC 6184, section 5.1). Cameras set it on each slice, or never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// A picture ended with the marker.
    ends_pictures: bool,
    /// A picture went on after the marker.
    is_inside: bool,
    /// Slices of the last picture that was whole. 0 if there was none.
    usual_slices: u32,
}

impl Marks {
    /// Returns whether the marker ends pictures, and nothing else.
    pub fn are_trusted(self) -> bool {
        self.ends_pictures && !self.is_inside
    }

    /// Returns whether a picture before a loss is whole. If the marker does not say so, the number of its slices does.
    pub fn is_whole(self, is_marked: bool, slices: u32) -> bool {
        if self.are_trusted() || self.usual_slices == 0 { is_marked } else { slices >= self.usual_slices }
    }

    /// Notes a picture that nothing is missing of.
    pub fn note_whole(&mut self, is_marked: bool, slices: u32) {
        self.ends_pictures |= is_marked;
        self.usual_slices = slices;
    }

    /// Notes a marker within a picture.
    pub fn note_inside(&mut self) {
        self.is_inside = true;
    }
}
