//! How a camera uses the marker.

/// Use of the marker, which ends a picture in the standards (RFC 6184, section 5.1). Cameras set it on each slice, or never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// A picture ended with the marker.
    ends_pictures: bool,
    /// A picture went on after the marker.
    is_inside: bool,
    /// Most slices of a picture that was whole. 0 if there was none.
    most_slices: u32,
}

impl Marks {
    /// Returns whether the marker ends pictures, and nothing else.
    pub fn are_trusted(self) -> bool {
        self.ends_pictures && !self.is_inside
    }

    /// Returns whether the marker is known to stand within pictures.
    pub fn are_inside(self) -> bool {
        self.is_inside
    }

    /// Returns whether a picture before a loss is whole. If the marker does not say so, it needs as many slices as any
    /// other. Until a picture was whole, the marker counts.
    pub fn is_whole(self, is_marked: bool, slices: u32) -> bool {
        if self.are_trusted() || self.most_slices == 0 {
            is_marked && !self.is_inside
        } else {
            slices >= self.most_slices
        }
    }

    /// Notes a picture that nothing is missing of.
    pub fn note_whole(&mut self, is_marked: bool, slices: u32) {
        self.ends_pictures |= is_marked;
        self.most_slices = self.most_slices.max(slices);
    }

    /// Notes a marker within a picture.
    pub fn note_inside(&mut self) {
        self.is_inside = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn picture_with_fewer_slices_than_another_is_not_whole() {
        let mut marks = Marks::default();
        marks.note_whole(false, 3);
        marks.note_whole(false, 2);
        assert!(marks.is_whole(false, 3));
        assert!(!marks.is_whole(false, 2));
    }

    #[test]
    fn marker_within_the_first_picture_does_not_make_it_whole() {
        let mut marks = Marks::default();
        assert!(marks.is_whole(true, 1));
        marks.note_inside();
        assert!(!marks.is_whole(true, 2));
    }

    #[test]
    fn marker_ends_pictures_until_one_goes_on_after_it() {
        let mut marks = Marks::default();
        marks.note_whole(true, 3);
        assert!(marks.are_trusted() && marks.is_whole(true, 1) && !marks.is_whole(false, 3));
        marks.note_inside();
        assert!(!marks.are_trusted() && !marks.is_whole(true, 1) && marks.is_whole(false, 3));
    }
}
