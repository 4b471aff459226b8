//! Rows of numbers that lie at a distance from each other, such as the query heads in a buffer that
//! holds queries, keys and values side by side.

use std::marker::PhantomData;

/// A tensor (T, H, D) to be read. The H rows of a token lie side by side, tokens lie `stride`
/// numbers apart; a plain matrix (N, C) has one row a token.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    place: Place,
    borrow: PhantomData<&'a [f32]>,
}

/// The same to be written.
pub struct RowsMut<'a> {
    place: Place,
    borrow: PhantomData<&'a mut [f32]>,
}

// SAFETY: it stands for a `&[f32]` of the numbers of its rows.
unsafe impl Send for Rows<'_> {}
// SAFETY: as above.
unsafe impl Sync for Rows<'_> {}
// SAFETY: it stands for a `&mut [f32]` of the numbers of its rows.
unsafe impl Send for RowsMut<'_> {}
// SAFETY: as above; `token_mut`, the only way to write without `&mut`, is unsafe.
unsafe impl Sync for RowsMut<'_> {}

/// Where rows lie: `tokens` times `heads * size` numbers, all of them within what was borrowed.
#[derive(Clone, Copy)]
struct Place {
    /// Of the first row. A pointer, as rows of one buffer may lie between those of another.
    start: *mut f32,
    tokens: usize,
    heads: usize,
    size: usize,
    stride: usize,
}

impl Place {
    fn new(
        start: *mut f32,
        len: usize,
        tokens: usize,
        heads: usize,
        size: usize,
        stride: usize,
    ) -> Place {
        assert!(heads > 0 && size > 0, "rows: {heads} heads of {size} numbers");
        let width = heads * size;
        assert!(stride >= width, "rows: tokens {stride} apart hold {width} numbers each");
        let needed = if tokens == 0 { 0 } else { (tokens - 1) * stride + width };
        assert!(len >= needed, "rows: {tokens} tokens need {needed} numbers, not {len}");
        Place { start, tokens, heads, size, stride }
    }

    fn packed(start: *mut f32, len: usize, size: usize) -> Place {
        assert!(size > 0 && len.is_multiple_of(size), "rows: {len} numbers are not (N, {size})");
        Place { start, tokens: len / size, heads: 1, size, stride: size }
    }

    fn split_at(self, head: usize) -> (Place, Place) {
        assert!(head > 0 && head < self.heads, "rows: a split at head {head} of {}", self.heads);
        let start = self.start.wrapping_add(head * self.size);
        (Place { heads: head, ..self }, Place { start, heads: self.heads - head, ..self })
    }

    fn width(self) -> usize {
        self.heads * self.size
    }

    fn shape(self) -> (usize, usize, usize) {
        (self.tokens, self.heads, self.size)
    }

    #[inline(always)]
    fn token(self, token: usize) -> *mut f32 {
        debug_assert!(token < self.tokens);
        self.start.wrapping_add(token * self.stride)
    }
}

impl<'a> Rows<'a> {
    /// (T, H, D) in `data` with tokens `stride` numbers apart, the first at its start.
    ///
    /// # Panics
    /// If `data` is too short, a row is empty, or `stride` is below H times D.
    pub fn new(
        data: &'a [f32],
        tokens: usize,
        heads: usize,
        size: usize,
        stride: usize,
    ) -> Rows<'a> {
        let start = data.as_ptr().cast_mut();
        let place = Place::new(start, data.len(), tokens, heads, size, stride);
        Rows { place, borrow: PhantomData }
    }

    /// All of `data` as (N, C), C being `size`.
    ///
    /// # Panics
    /// If the length does not fit.
    pub fn packed(data: &'a [f32], size: usize) -> Rows<'a> {
        let place = Place::packed(data.as_ptr().cast_mut(), data.len(), size);
        Rows { place, borrow: PhantomData }
    }

    /// The first `head` heads of each token, and the others.
    ///
    /// # Panics
    /// If one of the two has none.
    pub fn split_at(self, head: usize) -> (Rows<'a>, Rows<'a>) {
        let (left, right) = self.place.split_at(head);
        (Rows { place: left, ..self }, Rows { place: right, ..self })
    }

    /// (T, H, D).
    pub fn shape(&self) -> (usize, usize, usize) {
        self.place.shape()
    }

    /// Numbers of a token: H times D.
    pub fn width(&self) -> usize {
        self.place.width()
    }

    /// The numbers of a token, (H, D).
    ///
    /// # Panics
    /// If there is no such token.
    pub fn token(&self, token: usize) -> &'a [f32] {
        assert!(token < self.place.tokens, "rows: token {token} of {}", self.place.tokens);
        // SAFETY: the numbers lie within the borrow, as `Place` says.
        unsafe { std::slice::from_raw_parts(self.place.token(token), self.place.width()) }
    }

    /// Where a token begins; the token exists.
    #[inline(always)]
    pub(super) fn at(&self, token: usize) -> *const f32 {
        self.place.token(token)
    }
}

impl<'a> RowsMut<'a> {
    /// (T, H, D) in `data` with tokens `stride` numbers apart, the first at its start.
    ///
    /// # Panics
    /// If `data` is too short, a row is empty, or `stride` is below H times D.
    pub fn new(
        data: &'a mut [f32],
        tokens: usize,
        heads: usize,
        size: usize,
        stride: usize,
    ) -> RowsMut<'a> {
        let place = Place::new(data.as_mut_ptr(), data.len(), tokens, heads, size, stride);
        RowsMut { place, borrow: PhantomData }
    }

    /// All of `data` as (N, C), C being `size`.
    ///
    /// # Panics
    /// If the length does not fit.
    pub fn packed(data: &'a mut [f32], size: usize) -> RowsMut<'a> {
        let place = Place::packed(data.as_mut_ptr(), data.len(), size);
        RowsMut { place, borrow: PhantomData }
    }

    /// The first `head` heads of each token, and the others: both may be written at once.
    ///
    /// # Panics
    /// If one of the two has none.
    pub fn split_at(self, head: usize) -> (RowsMut<'a>, RowsMut<'a>) {
        let (left, right) = self.place.split_at(head);
        (
            RowsMut { place: left, borrow: PhantomData },
            RowsMut { place: right, borrow: PhantomData },
        )
    }

    /// The same rows for a while.
    pub fn reborrow(&mut self) -> RowsMut<'_> {
        RowsMut { place: self.place, borrow: PhantomData }
    }

    /// The same rows to be read.
    pub fn as_rows(&self) -> Rows<'_> {
        Rows { place: self.place, borrow: PhantomData }
    }

    /// (T, H, D).
    pub fn shape(&self) -> (usize, usize, usize) {
        self.place.shape()
    }

    /// Numbers of a token: H times D.
    pub fn width(&self) -> usize {
        self.place.width()
    }

    /// The same rows to be read while they are written, through [`Rows::at`] alone.
    ///
    /// # Safety
    /// No slice of the result is taken, and whoever reads a number is the one that writes it.
    pub(super) unsafe fn alias(&self) -> Rows<'a> {
        Rows { place: self.place, borrow: PhantomData }
    }

    /// Where a token begins; the token exists. Writing through it is the caller's to justify.
    #[inline(always)]
    pub(super) fn at(&self, token: usize) -> *mut f32 {
        self.place.token(token)
    }

    /// The numbers of a token, (H, D).
    ///
    /// # Safety
    /// The token exists, and while the result lives nobody else reaches its numbers.
    pub(super) unsafe fn token_mut(&self, token: usize) -> &'a mut [f32] {
        // SAFETY: the numbers lie within the mutable borrow, as `Place` says; the caller is the
        // only one to reach them.
        unsafe { std::slice::from_raw_parts_mut(self.place.token(token), self.place.width()) }
    }
}
