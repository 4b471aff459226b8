//! Who holds which block of the KV cache: references, sharing by prefix, and the budget.
//!
//! A full block is known by the tokens in it and by the block before it, so a sequence that begins
//! with the same tokens finds it while it is in use and for as long afterwards as nobody needs its
//! memory.

use std::collections::{BTreeMap, HashMap};

use crate::Error;
use crate::decoder::{BlockId, CacheBlocks, CacheLayout};

/// Positions of a block.
pub(super) const BLOCK: usize = llmos_tensor::CacheShape::BLOCK;

/// What a chain of blocks starts from: only sequences with an equal root share blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Root {
    /// Keeps tenants apart.
    pub(super) salt: u64,
    /// The adapter that keys and values were made with, 0 for none.
    pub(super) adapter: u64,
    /// The rotary angles for long contexts are in use.
    pub(super) long: bool,
}

/// A full block's place in a chain. Nodes are never numbered again, so equal links mean equal
/// tokens all the way to the root: no digest can collide.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Link {
    root: Root,
    /// The node before, none at the start.
    parent: Option<u64>,
    tokens: [u32; BLOCK],
}

impl Link {
    /// The link of the block that holds `tokens` ([`BLOCK`] of them) after `parent`.
    pub(super) fn new(root: Root, parent: Option<u64>, tokens: &[u32]) -> Option<Link> {
        Some(Link { root, parent, tokens: tokens.try_into().ok()? })
    }
}

#[derive(Default)]
struct Holder {
    references: u32,
    /// The key under which it can be found, and its node.
    link: Option<(Link, u64)>,
    /// When it lost its last reference, if it is kept because it can be found.
    idle_since: Option<u64>,
}

/// All blocks, within a budget.
pub(super) struct Pages {
    blocks: CacheBlocks,
    holders: Vec<Holder>,
    /// Neither referenced nor findable.
    free: Vec<BlockId>,
    /// Findable without a reference, longest idle first.
    idle: BTreeMap<u64, BlockId>,
    found: HashMap<Link, BlockId>,
    limit: usize,
    clock: u64,
    next_node: u64,
}

impl Pages {
    /// Pages within `limit` blocks.
    pub(super) fn new(layout: CacheLayout, limit: usize) -> Pages {
        Pages {
            blocks: CacheBlocks::new(layout),
            holders: Vec::new(),
            free: Vec::new(),
            idle: BTreeMap::new(),
            found: HashMap::new(),
            limit,
            clock: 0,
            next_node: 0,
        }
    }

    pub(super) fn blocks(&self) -> &CacheBlocks {
        &self.blocks
    }

    pub(super) fn blocks_mut(&mut self) -> &mut CacheBlocks {
        &mut self.blocks
    }

    /// Blocks within the budget.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Blocks that can be had now.
    pub(super) fn available(&self) -> usize {
        self.free.len() + self.idle.len() + (self.limit - self.holders.len())
    }

    /// A block with one reference; its bytes are whatever they were.
    ///
    /// # Errors
    /// [`Error::CacheFull`] when every block of the budget is referenced.
    pub(super) fn take(&mut self) -> Result<BlockId, Error> {
        let id = if let Some(id) = self.free.pop() {
            id
        } else if self.holders.len() < self.limit {
            self.holders.push(Holder::default());
            self.blocks.grow()
        } else if let Some((_, id)) = self.idle.pop_first() {
            self.forget(id);
            id
        } else {
            return Err(self.full(1));
        };
        let holder = &mut self.holders[id as usize];
        holder.idle_since = None;
        holder.references = 1;
        Ok(id)
    }

    pub(super) fn full(&self, needed: usize) -> Error {
        Error::CacheFull {
            needed,
            free: self.available(),
            total: self.limit,
            block_bytes: self.blocks.layout().block_bytes(),
        }
    }

    /// One more reference.
    pub(super) fn retain(&mut self, id: BlockId) {
        let holder = &mut self.holders[id as usize];
        holder.references += 1;
        if let Some(stamp) = holder.idle_since.take() {
            self.idle.remove(&stamp);
        }
    }

    /// One reference less. Release a chain from its end, so that its beginning is kept longest.
    pub(super) fn release(&mut self, id: BlockId) {
        let holder = &mut self.holders[id as usize];
        assert!(holder.references > 0, "a block is released once for each reference");
        holder.references -= 1;
        if holder.references > 0 {
            return;
        }
        if holder.link.is_some() {
            self.clock += 1;
            holder.idle_since = Some(self.clock);
            self.idle.insert(self.clock, id);
        } else {
            self.free.push(id);
        }
    }

    /// True if writing to the block changes nobody else's memory.
    pub(super) fn is_writable(&self, id: BlockId) -> bool {
        let holder = &self.holders[id as usize];
        holder.references == 1 && holder.link.is_none()
    }

    /// A block with the same bytes that is safe to write; takes over the caller's reference.
    pub(super) fn writable(&mut self, id: BlockId) -> Result<BlockId, Error> {
        if self.is_writable(id) {
            return Ok(id);
        }
        let copy = self.take()?;
        self.blocks.copy(id, copy);
        self.release(id);
        Ok(copy)
    }

    /// The block and node of a link, with a reference more.
    pub(super) fn find(&mut self, link: &Link) -> Option<(BlockId, u64)> {
        let id = *self.found.get(link)?;
        let node = self.holders[id as usize].link.as_ref()?.1;
        self.retain(id);
        Some((id, node))
    }

    /// Makes a full block findable; returns its node, or that of the block already found there.
    pub(super) fn publish(&mut self, id: BlockId, link: Link) -> u64 {
        let existing =
            self.found.get(&link).and_then(|&id| self.holders[id as usize].link.as_ref());
        if let Some((_, node)) = existing {
            return *node;
        }
        self.forget(id);
        let node = self.next_node;
        self.next_node += 1;
        self.found.insert(link.clone(), id);
        self.holders[id as usize].link = Some((link, node));
        node
    }

    /// Makes a block unfindable.
    fn forget(&mut self, id: BlockId) {
        if let Some((link, _)) = self.holders[id as usize].link.take() {
            self.found.remove(&link);
        }
    }

    /// Forgets every findable block that is not in use.
    pub(super) fn forget_idle(&mut self) {
        while let Some((_, id)) = self.idle.pop_first() {
            self.forget(id);
            self.holders[id as usize].idle_since = None;
            self.free.push(id);
        }
    }

    /// Forgets every findable block of a salt. Those in use are free once the last who uses them ends.
    pub(super) fn forget_salt(&mut self, salt: u64) {
        let of_salt = self.found.iter().filter(|(link, _)| link.root.salt == salt);
        let ids: Vec<BlockId> = of_salt.map(|(_, &id)| id).collect();
        for id in ids {
            self.forget(id);
            if let Some(stamp) = self.holders[id as usize].idle_since.take() {
                self.idle.remove(&stamp);
                self.free.push(id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use llmos_tensor::CacheType;

    use super::*;

    const ROOT: Root = Root { salt: 0, adapter: 0, long: false };

    fn pages(limit: usize) -> Pages {
        let layout = CacheLayout::new(&crate::decoder::preset_for_tests(), CacheType::F16);
        Pages::new(layout, limit)
    }

    fn link(root: Root, parent: Option<u64>, token: u32) -> Link {
        Link::new(root, parent, &[token; BLOCK]).unwrap()
    }

    #[test]
    fn the_budget_is_kept() {
        let mut pages = pages(2);
        let (a, b) = (pages.take().unwrap(), pages.take().unwrap());
        assert!(matches!(pages.take(), Err(Error::CacheFull { free: 0, total: 2, .. })));
        pages.release(a);
        assert_eq!(pages.take().unwrap(), a);
        assert_ne!(a, b);
    }

    #[test]
    fn a_chain_is_found_until_its_memory_is_needed_and_its_end_goes_first() {
        let mut pages = pages(2);
        let (a, b) = (pages.take().unwrap(), pages.take().unwrap());
        let first = pages.publish(a, link(ROOT, None, 1));
        pages.publish(b, link(ROOT, Some(first), 2));
        pages.release(b);
        pages.release(a);
        assert_eq!(pages.available(), 2);
        assert_eq!(pages.find(&link(ROOT, None, 1)), Some((a, first)));
        assert_eq!(pages.find(&link(Root { salt: 1, ..ROOT }, None, 1)), None);
        assert_eq!(pages.find(&link(Root { adapter: 1, ..ROOT }, None, 1)), None);
        assert_eq!(pages.find(&link(ROOT, None, 2)), None);
        pages.release(a);
        assert_eq!(pages.take().unwrap(), b);
        assert_eq!(pages.find(&link(ROOT, Some(first), 2)), None);
        assert!(pages.find(&link(ROOT, None, 1)).is_some());
    }

    #[test]
    fn what_one_salt_forgets_is_free_and_others_find_theirs() {
        let mut pages = pages(3);
        let other = Root { salt: 1, ..ROOT };
        let [idle, used, theirs] = [0; 3].map(|_| pages.take().unwrap());
        for (id, root, token) in [(idle, ROOT, 1), (used, ROOT, 2), (theirs, other, 1)] {
            pages.publish(id, link(root, None, token));
        }
        pages.release(idle);
        pages.release(theirs);
        pages.forget_salt(0);
        assert_eq!(pages.find(&link(ROOT, None, 1)), None);
        assert_eq!(pages.find(&link(ROOT, None, 2)), None);
        // Whoever uses one keeps it to the end, and it is not kept for others then.
        assert_eq!((pages.free.len(), pages.available()), (1, 2));
        pages.release(used);
        assert_eq!((pages.free.len(), pages.available()), (2, 3));
        assert_eq!(pages.find(&link(other, None, 1)).map(|(id, _)| id), Some(theirs));
    }

    #[test]
    fn a_shared_or_findable_block_is_copied_before_it_is_written() {
        let mut pages = pages(3);
        let a = pages.take().unwrap();
        pages.blocks_mut().block_mut(a)[0] = 7;
        assert_eq!(pages.writable(a).unwrap(), a);
        pages.retain(a);
        let copy = pages.writable(a).unwrap();
        assert_ne!(copy, a);
        assert_eq!(pages.blocks().block(copy)[0], 7);
        pages.publish(a, link(ROOT, None, 1));
        let other = pages.writable(a).unwrap();
        assert_ne!(other, a);
        assert!(pages.find(&link(ROOT, None, 1)).is_some());
    }
}
