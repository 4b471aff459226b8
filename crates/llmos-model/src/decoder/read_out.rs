//! What any state of the residual stream would say if the layers ended with it.

use llmos_tensor::Device;

use super::Model;
use super::rows::norm_rows;
use super::workspace::{Workspace, sized};

impl Model {
    /// Passes the logits of `states` (rows, C) of the residual stream to `each`, block by block as
    /// [`Model::logits_by_blocks`]: through the final norm and the head, as the last layer's states go
    /// (nostalgebraist's logit lens, 2020). What was wanted of the last batch is forgotten.
    ///
    /// # Panics
    /// If `states` is not rows of width C.
    pub fn read_out(
        &self,
        device: &Device,
        workspace: &mut Workspace,
        states: &[f32],
        each: &mut dyn FnMut(usize, &mut [f32]),
    ) {
        let c = self.config.d_model;
        assert!(states.len().is_multiple_of(c), "states are rows of width {c}");
        let hidden = sized(&mut workspace.hidden, states.len());
        norm_rows(device, states, &self.output_norm, self.config.norm_eps, hidden);
        self.logits_by_blocks(device, workspace, 0..states.len() / c, each);
    }
}
