//! Parquet: one column of text, page by page.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::vec::IntoIter;

use parquet::basic::{Compression, Type};
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::column::reader::ColumnReaderImpl;
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::{ColumnChunkMetaData, RowGroupMetaData};
use parquet::file::reader::FileReader;
use parquet::file::serialized_reader::{SerializedFileReader, SerializedPageReader};
use parquet::schema::types::ColumnDescriptor;

use super::{Document, Location, Reading, Row, Rows};
use crate::Error;
use crate::data::files::RawFile;
use crate::data::removal::Reason;

/// What a Parquet file begins and ends with.
pub(super) const MAGIC: &[u8] = b"PAR1";

/// Rows read at once.
const BATCH: usize = 256;

/// Longest page after decompression, in bytes; writers cut pages at 1 MB.
const LONGEST_PAGE: u64 = 512 << 20;

/// The rows of a file's text column.
pub(super) struct Columns {
    path: PathBuf,
    number: u32,
    lossy: bool,
    file: Arc<File>,
    groups: Vec<RowGroupMetaData>,
    column: usize,
    /// The next row group.
    group: usize,
    reader: Option<ColumnReaderImpl<ByteArrayType>>,
    /// Values that are read: none for null.
    values: IntoIter<Option<ByteArray>>,
    row: u64,
    n_byte: u64,
    done: Arc<AtomicU64>,
}

/// The names of a file's columns of text.
///
/// # Errors
/// The file is no Parquet.
pub(in crate::data) fn text_columns(path: &Path) -> Result<Vec<String>, Error> {
    let file = File::open(path).map_err(Error::io("read", path))?;
    let reader = guarded(path, || SerializedFileReader::new(file))?;
    let schema = reader.metadata().file_metadata().schema_descr();
    let texts = schema.columns().iter().filter(|column| is_text(column));
    Ok(texts.map(|column| column.path().string()).collect())
}

fn is_text(column: &ColumnDescriptor) -> bool {
    column.physical_type() == Type::BYTE_ARRAY && column.max_rep_level() == 0
}

impl Columns {
    /// # Errors
    /// The file is no Parquet, or has no such column of text.
    pub(super) fn open(
        file: &RawFile,
        number: u32,
        reading: &Reading,
        done: &Arc<AtomicU64>,
    ) -> Result<Columns, Error> {
        let path = &file.path;
        let opened = File::open(path).map_err(Error::io("read", path))?;
        let twin = opened.try_clone().map_err(Error::io("read", path))?;
        let reader = guarded(path, || SerializedFileReader::new(twin))?;
        let metadata = reader.metadata();
        let schema = metadata.file_metadata().schema_descr();
        let column = schema
            .columns()
            .iter()
            .position(|column| column.path().string() == reading.field && is_text(column));
        let Some(column) = column else {
            let names: Vec<String> = schema.columns().iter().map(|c| c.path().string()).collect();
            return Err(Error::Format {
                path: path.clone(),
                what: "columns".into(),
                expected: format!("a column of text called {}", reading.field),
                got: names.join(", "),
            });
        };
        Ok(Columns {
            path: path.clone(),
            number,
            lossy: reading.lossy,
            file: Arc::new(opened),
            groups: metadata.row_groups().to_vec(),
            column,
            group: 0,
            reader: None,
            values: Vec::new().into_iter(),
            row: 0,
            n_byte: file.n_byte,
            done: done.clone(),
        })
    }

    /// Reads the next values; false at the end.
    fn fill(&mut self) -> Result<bool, Error> {
        loop {
            if let Some(mut reader) = self.reader.take() {
                let values = guarded(&self.path, || read_batch(&mut reader))?;
                if !values.is_empty() {
                    self.values = values.into_iter();
                    self.reader = Some(reader);
                    return Ok(true);
                }
            }
            let Some(group) = self.groups.get(self.group) else { return Ok(false) };
            let (file, column) = (self.file.clone(), self.column);
            self.reader = Some(guarded(&self.path, || open_column(file, group, column))?);
            self.group += 1;
            // What the bar counts: the file's bytes, by row groups.
            let n_group = self.groups.len() as u64;
            let share = |group: u64| self.n_byte * group / n_group;
            let group = self.group as u64;
            self.done.fetch_add(share(group) - share(group - 1), Ordering::Relaxed);
        }
    }
}

impl Rows for Columns {
    fn next(&mut self) -> Result<Option<Row>, Error> {
        let value = loop {
            match self.values.next() {
                Some(value) => break value,
                None if self.fill()? => {}
                None => return Ok(None),
            }
        };
        let at = Location { file: self.number, row: self.row, offset: 0 };
        self.row += 1;
        let Some(value) = value else {
            let (reason, because) = (Reason::NoText, "is null".into());
            return Ok(Some(Row::Refused { at, n_byte: 0, reason, because }));
        };
        let text = match std::str::from_utf8(value.data()) {
            Ok(text) => text.to_string(),
            Err(_) if self.lossy => String::from_utf8_lossy(value.data()).into_owned(),
            Err(error) => {
                return Err(Error::Text {
                    path: self.path.clone(),
                    offset: error.valid_up_to() as u64,
                    problem: format!("row {}: a byte that is no UTF-8", at.row),
                });
            }
        };
        Ok(Some(Row::Document(Document::row(text, at))))
    }
}

/// Calls the library, which panics on some damaged files.
fn guarded<T>(path: &Path, call: impl FnOnce() -> ParquetResult<T>) -> Result<T, Error> {
    let refuse = |got: String| Error::Format {
        path: path.to_path_buf(),
        what: "Parquet".into(),
        expected: "a sound file".into(),
        got,
    };
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(|error| refuse(error.to_string())),
        Err(_) => Err(refuse("one that its reader cannot follow".into())),
    }
}

fn read_batch(
    reader: &mut ColumnReaderImpl<ByteArrayType>,
) -> ParquetResult<Vec<Option<ByteArray>>> {
    let (mut values, mut levels) = (Vec::new(), Vec::new());
    let (n_row, n_value, _) = reader.read_records(BATCH, Some(&mut levels), None, &mut values)?;
    // A column that is never null has no levels.
    if levels.is_empty() || n_value == n_row {
        return Ok(values.into_iter().map(Some).collect());
    }
    let most = levels.iter().copied().max().unwrap_or_default();
    let mut values = values.into_iter();
    let rows = levels.iter().map(|&level| if level == most { values.next() } else { None });
    Ok(rows.collect())
}

fn open_column(
    file: Arc<File>,
    group: &RowGroupMetaData,
    column: usize,
) -> ParquetResult<ColumnReaderImpl<ByteArrayType>> {
    let lie = || ParquetError::General("a row group of impossible size".into());
    let n_row = usize::try_from(group.num_rows()).map_err(|_| lie())?;
    let chunk = group.columns().get(column).ok_or_else(lie)?;
    let start = chunk.dictionary_page_offset().unwrap_or(chunk.data_page_offset());
    if start < 0 || chunk.compressed_size() < 0 {
        return Err(lie());
    }
    let descriptor = chunk.column_descr_ptr();
    let pages: Box<dyn PageReader> = match chunk.compression() {
        Compression::ZSTD(_) => {
            Box::new(ZstdPages(SerializedPageReader::new(file, &as_stored(chunk)?, n_row, None)?))
        }
        _ => Box::new(SerializedPageReader::new(file, chunk, n_row, None)?),
    };
    Ok(ColumnReaderImpl::new(descriptor, pages))
}

/// The chunk as if it were not compressed, so that its pages come as they are stored.
fn as_stored(chunk: &ColumnChunkMetaData) -> ParquetResult<ColumnChunkMetaData> {
    chunk.clone().into_builder().set_compression(Compression::UNCOMPRESSED).build()
}

/// Pages that are compressed with Zstandard: the library's own decoder for them is C code.
struct ZstdPages(SerializedPageReader<File>);

impl Iterator for ZstdPages {
    type Item = ParquetResult<Page>;

    fn next(&mut self) -> Option<ParquetResult<Page>> {
        self.get_next_page().transpose()
    }
}

impl PageReader for ZstdPages {
    fn get_next_page(&mut self) -> ParquetResult<Option<Page>> {
        let Some(mut page) = self.0.get_next_page()? else { return Ok(None) };
        match &mut page {
            Page::DataPage { buf, .. } | Page::DictionaryPage { buf, .. } => {
                *buf = decompress(&[], buf)?.into();
            }
            Page::DataPageV2 {
                buf,
                def_levels_byte_len,
                rep_levels_byte_len,
                is_compressed,
                ..
            } => {
                // Levels are never compressed (parquet-format, DataPageHeaderV2).
                let n_level = *def_levels_byte_len as usize + *rep_levels_byte_len as usize;
                let (levels, values) = buf.split_at_checked(n_level).ok_or_else(|| {
                    ParquetError::General("levels that are longer than their page".into())
                })?;
                if *is_compressed && !values.is_empty() {
                    *buf = decompress(levels, values)?.into();
                }
            }
        }
        Ok(Some(page))
    }

    fn peek_next_page(&mut self) -> ParquetResult<Option<PageMetadata>> {
        self.0.peek_next_page()
    }

    fn skip_next_page(&mut self) -> ParquetResult<()> {
        self.0.skip_next_page()
    }
}

/// `before`, and what the frame holds.
fn decompress(before: &[u8], frame: &[u8]) -> ParquetResult<Vec<u8>> {
    use std::io::Read;
    let mut page = before.to_vec();
    let decoder = ruzstd::decoding::StreamingDecoder::new(frame);
    let decoder = decoder.map_err(|error| ParquetError::General(error.to_string()))?;
    let n = decoder.take(LONGEST_PAGE).read_to_end(&mut page)?;
    if n as u64 == LONGEST_PAGE {
        return Err(ParquetError::General("a page longer than 512 MiB".into()));
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{read, reading};
    use super::*;

    /// A golden file, written by testdata/parquet/make.py.
    fn golden(name: &str) -> Vec<u8> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/parquet");
        std::fs::read(root.join(format!("{name}.parquet"))).unwrap()
    }

    /// The text of a golden row, as the script makes it.
    fn expected(row: usize) -> Option<String> {
        (row % 7 != 3).then(|| format!("row {row} {}", "ab 语 ".repeat(row % 5)))
    }

    fn check(name: &str, reading: &Reading, missing: Option<&str>) {
        let rows = read("a.parquet", &golden(name), reading).unwrap();
        assert_eq!(rows.len(), 700, "{name}");
        for (index, row) in rows.into_iter().enumerate() {
            let expected = expected(index).or_else(|| missing.map(String::from));
            match row {
                Row::Document(row) => {
                    assert_eq!(Some(row.text), expected, "{name}");
                    assert_eq!(row.at.row, index as u64);
                }
                Row::Refused { reason, .. } => {
                    assert_eq!((reason, expected), (Reason::NoText, None), "{name}");
                }
            }
        }
    }

    #[test]
    fn every_codec_page_version_and_encoding_is_read() {
        for name in [
            "snappy",
            "snappy-v2",
            "none",
            "gzip",
            "lz4",
            "zstd",
            "zstd-v2",
            "plain",
            "delta-length-byte-array",
            "delta-byte-array",
        ] {
            check(name, &reading(), None);
        }
        check("required", &reading(), Some(""));
        check("nested", &Reading { field: "a.b".into(), ..reading() }, None);
        assert!(read("a.parquet", &golden("empty"), &reading()).unwrap().is_empty());
    }

    #[test]
    fn a_named_file_is_known_by_its_first_bytes() {
        assert_eq!(read("a.txt", &golden("zstd"), &reading()).unwrap().len(), 700);
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        let check = |name: &str, field: &str, words: &str| {
            let reading = Reading { field: field.into(), ..reading() };
            let error = read("a.parquet", &golden(name), &reading).unwrap_err().to_string();
            assert!(error.contains(words), "{name}: {error}");
        };
        check("snappy", "body", "called body, got id, text");
        check("snappy", "id", "called id");
        check("nested", "list.list.element", "called list");
        check("brotli", "text", "brotli");
        check("bytes", "text", "row 1: a byte that is no UTF-8, at byte 0");
        let lossy = Reading { lossy: true, ..reading() };
        assert_eq!(read("a.parquet", &golden("bytes"), &lossy).unwrap().len(), 3);
        for bytes in [&b"PAR1"[..], b"PAR1PAR1", b"{}"] {
            assert!(read("a.parquet", bytes, &reading()).is_err());
        }
    }

    #[test]
    fn damage_is_an_error_or_other_rows() {
        // Every tenth byte of the pages and each of the footer, set to its complement.
        for name in ["zstd-v2", "snappy", "delta-byte-array"] {
            let sound = golden(name);
            for at in (4..sound.len()).filter(|at| at % 31 == 0 || sound.len() - at < 200) {
                let mut damaged = sound.clone();
                damaged[at] ^= 0xff;
                let _ = read("a.parquet", &damaged, &reading());
            }
        }
    }
}
