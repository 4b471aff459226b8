//! Where a sequence is: in the engine, or out of it for a while.

use llmos_model::engine::{SequenceId, SequenceOptions};
use llmos_model::{Engine, Error};

/// Where a sequence is.
pub(super) enum Place {
    /// In the engine.
    Engine(SequenceId),
    /// Written out.
    Image(Vec<u8>),
    /// It has to be computed again, from these tokens.
    Tokens(Vec<u32>),
    /// It has ended.
    Over,
}

/// How a sequence is added that has to be computed again.
pub(super) struct Again {
    pub(super) options: SequenceOptions,
    /// Rows of logits that are wanted, where it is more than the last.
    pub(super) rows: Option<usize>,
    pub(super) keeps_states: bool,
}

impl Place {
    pub(super) fn is_over(&self) -> bool {
        matches!(self, Place::Over)
    }

    pub(super) fn is_in_engine(&self) -> bool {
        matches!(self, Place::Engine(_))
    }

    pub(super) fn is_away(&self) -> bool {
        matches!(self, Place::Image(_) | Place::Tokens(_))
    }

    /// Leaves the engine: written out where `spare` bytes hold it, which are taken off `spare`; else to
    /// be computed again.
    ///
    /// # Errors
    /// The engine's.
    pub(super) fn leave(
        &mut self,
        engine: &mut Engine,
        spare: &mut usize,
        may_be_written: bool,
    ) -> Result<(), Error> {
        let Place::Engine(id) = *self else { return Ok(()) };
        let tokens = engine.tokens(id)?.to_vec();
        let most = if may_be_written { *spare } else { 0 };
        let mut image = Bounded { bytes: Vec::new(), most };
        *self = match engine.page_out(id, &mut image) {
            Ok(()) => {
                *spare -= image.bytes.len().min(*spare);
                Place::Image(image.bytes)
            }
            // It stays where writing fails.
            Err(Error::Stream { .. }) => {
                engine.remove(id)?;
                Place::Tokens(tokens)
            }
            Err(error) => return Err(error),
        };
        Ok(())
    }

    /// Comes back to the engine; false if there is no memory for it.
    ///
    /// # Errors
    /// The engine's.
    pub(super) fn come_back(
        &mut self,
        engine: &mut Engine,
        spare: &mut usize,
        again: &Again,
    ) -> Result<bool, Error> {
        let id = match self {
            Place::Image(image) => match engine.page_in(&mut image.as_slice()) {
                Ok(id) => {
                    *spare += image.len();
                    id
                }
                Err(Error::CacheFull { .. }) => return Ok(false),
                Err(error) => return Err(error),
            },
            Place::Tokens(tokens) => again.add(engine, tokens)?,
            Place::Engine(_) | Place::Over => return Ok(true),
        };
        *self = Place::Engine(id);
        Ok(true)
    }
}

impl Again {
    fn add(&self, engine: &mut Engine, tokens: &[u32]) -> Result<SequenceId, Error> {
        let id = engine.add(tokens, self.options.clone())?;
        if let Some(rows) = self.rows {
            engine.keep_rows(id, rows)?;
        }
        if self.keeps_states {
            engine.keep_states(id)?;
        }
        Ok(id)
    }
}

/// Takes so many bytes and no more.
struct Bounded {
    bytes: Vec<u8>,
    most: usize,
}

impl std::io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.most {
            return Err(std::io::ErrorKind::StorageFull.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
