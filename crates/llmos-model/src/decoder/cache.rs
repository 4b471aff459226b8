//! Memory of the KV cache: blocks of 32 positions, a page of each layer in every block.

use llmos_tensor::{Arena, Buffer, CacheShape, CacheType};

use crate::Config;

/// Index of a block in [`CacheBlocks`].
pub type BlockId = u32;

/// Alignment of a page: a cache line, and the widest vector.
const ALIGN: usize = 64;

/// Where each layer's page lies in a block.
#[derive(Clone, Debug)]
pub struct CacheLayout {
    /// One a layer.
    pub(super) shapes: Vec<CacheShape>,
    offsets: Vec<usize>,
    block_bytes: usize,
}

impl CacheLayout {
    /// The layout for `config` with keys and values stored as `kind`.
    pub fn new(config: &Config, kind: CacheType) -> CacheLayout {
        let shapes: Vec<CacheShape> = config
            .layers
            .iter()
            .map(|layer| CacheShape { n_kv_head: layer.n_kv_head, head_dim: layer.head_dim, kind })
            .collect();
        let mut offsets = Vec::with_capacity(shapes.len());
        let mut block_bytes = 0;
        for shape in &shapes {
            offsets.push(block_bytes);
            block_bytes += shape.page_bytes().next_multiple_of(ALIGN);
        }
        CacheLayout { shapes, offsets, block_bytes }
    }

    /// Bytes of a block: the keys and values of [`CacheShape::BLOCK`] positions in all layers.
    pub fn block_bytes(&self) -> usize {
        self.block_bytes
    }

    /// How keys and values are stored.
    pub fn kind(&self) -> CacheType {
        self.shapes.first().map_or(CacheType::F16, |shape| shape.kind)
    }
}

/// Blocks of memory, taken from the system one at a time as they are first needed.
pub struct CacheBlocks {
    layout: CacheLayout,
    arena: Arena,
    blocks: Vec<Buffer>,
}

impl CacheBlocks {
    /// No blocks yet.
    pub fn new(layout: CacheLayout) -> CacheBlocks {
        CacheBlocks { layout, arena: Arena::default(), blocks: Vec::new() }
    }

    /// The layout of every block.
    pub fn layout(&self) -> &CacheLayout {
        &self.layout
    }

    /// Blocks in all.
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// True before the first block.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// One more block, zeroed.
    pub fn grow(&mut self) -> BlockId {
        self.blocks.push(self.arena.take(self.layout.block_bytes));
        (self.blocks.len() - 1) as BlockId
    }

    /// All bytes of a block.
    ///
    /// # Panics
    /// If there is no such block.
    pub fn block(&self, id: BlockId) -> &[u8] {
        self.blocks[id as usize].as_slice()
    }

    /// All bytes of a block, to be written.
    ///
    /// # Panics
    /// If there is no such block.
    pub fn block_mut(&mut self, id: BlockId) -> &mut [u8] {
        self.blocks[id as usize].as_mut_slice()
    }

    /// Copies the bytes of one block to another; nothing to do if they are the same.
    pub fn copy(&mut self, from: BlockId, to: BlockId) {
        if let Ok([from, to]) = self.blocks.get_disjoint_mut([from as usize, to as usize]) {
            to.as_mut_slice().copy_from_slice(from.as_slice());
        }
    }

    /// The page of `layer` in a block.
    pub(super) fn page(&self, id: BlockId, layer: usize) -> &[u8] {
        &self.block(id)[self.layout.offsets[layer]..][..self.layout.shapes[layer].page_bytes()]
    }

    /// As [`CacheBlocks::page`], to be written.
    pub(super) fn page_mut(&mut self, id: BlockId, layer: usize) -> &mut [u8] {
        let offset = self.layout.offsets[layer];
        let bytes = self.layout.shapes[layer].page_bytes();
        &mut self.block_mut(id)[offset..][..bytes]
    }

    /// The pages of `layer` in the blocks `ids`, which ascend.
    pub(super) fn pages_mut(
        &mut self,
        layer: usize,
        ids: impl Iterator<Item = BlockId>,
    ) -> Vec<&mut [u8]> {
        let (start, bytes) = (self.layout.offsets[layer], self.layout.shapes[layer].page_bytes());
        let mut rest = &mut self.blocks[..];
        let mut passed = 0;
        let mut pages = Vec::new();
        for id in ids {
            let Some(skipped) = (id as usize).checked_sub(passed) else { break };
            let Some((block, after)) = rest[skipped..].split_first_mut() else { break };
            pages.push(&mut block.as_mut_slice()[start..][..bytes]);
            passed = id as usize + 1;
            rest = after;
        }
        pages
    }
}
