//! A trainer of vocabularies of either kind, fed as texts are read.

use llmos_tokenizer::Error;
use llmos_tokenizer::train::{BpeOptions, BpeTrainer, CharOptions, CharTrainer, Trained};

use crate::terminal::Terminal;

/// Learns a vocabulary.
pub(crate) enum Trainer {
    /// Of byte-level BPE.
    Bpe(BpeTrainer),
    /// Of one id a character.
    Characters(CharTrainer),
}

impl Trainer {
    /// # Errors
    /// There can be no such vocabulary.
    pub(crate) fn bpe(options: BpeOptions) -> Result<Trainer, Error> {
        BpeTrainer::new(options).map(Trainer::Bpe)
    }

    /// # Errors
    /// There can be no such vocabulary.
    pub(crate) fn characters(options: CharOptions) -> Result<Trainer, Error> {
        CharTrainer::new(options).map(Trainer::Characters)
    }

    /// Takes the next part of a text, or, with none, its end.
    pub(crate) fn take(&mut self, part: Option<&str>) {
        match (self, part) {
            (Trainer::Bpe(trainer), Some(text)) => trainer.push(text),
            (Trainer::Bpe(trainer), None) => trainer.end_text(),
            (Trainer::Characters(trainer), Some(text)) => trainer.push(text),
            (Trainer::Characters(trainer), None) => trainer.end_text(),
        }
    }

    /// Makes the vocabulary, with a bar.
    ///
    /// # Errors
    /// The texts make none.
    pub(crate) fn train(self, terminal: &Terminal) -> Result<Trained, Error> {
        match self {
            Trainer::Bpe(trainer) => {
                let bar = terminal.step_bar(Some(0), "merging");
                let trained = trainer.train(&mut |done, total| {
                    bar.set_length(total as u64);
                    bar.set_position(done as u64);
                });
                bar.finish_and_clear();
                trained
            }
            Trainer::Characters(trainer) => trainer.train(),
        }
    }
}
