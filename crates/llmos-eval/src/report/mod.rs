//! A card for people: Markdown, one HTML page, and a picture.

mod figure;
mod html;
mod markdown;
mod picture;
mod table;

pub use html::html;
pub use markdown::markdown;
pub use picture::svg;

#[cfg(test)]
mod tests;
