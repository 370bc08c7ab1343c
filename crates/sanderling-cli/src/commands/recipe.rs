//! The recipe with what the command line overrides.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use sanderling_train::recipe::Recipe;
use sanderling_train::split::SplitKind;
use sanderling_types::Result;

/// How the data is divided, see `docs/evaluation.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SplitArg {
    /// Newest tenth of the time tests.
    Time,
    /// Each user's last interaction tests.
    LeaveOneOut,
    /// A tenth of the items lose every interaction and are asked for.
    HeldOutItems,
    /// Every prefix of a test session is a case.
    NextClick,
}

impl From<SplitArg> for SplitKind {
    fn from(arg: SplitArg) -> Self {
        match arg {
            SplitArg::Time => SplitKind::Time,
            SplitArg::LeaveOneOut => SplitKind::LeaveOneOut,
            SplitArg::HeldOutItems => SplitKind::HeldOutItems,
            SplitArg::NextClick => SplitKind::NextClick,
        }
    }
}

/// A recipe file and what overrides it.
#[derive(Debug, Args)]
pub(crate) struct RecipeArgs {
    /// Recipe file; see docs/formats/recipe.md.
    #[arg(long, value_name = "FILE")]
    recipe: Option<PathBuf>,
    /// How the data is divided; overrides the recipe.
    #[arg(long, value_enum)]
    split: Option<SplitArg>,
    /// Seed of every random choice; overrides the recipe.
    #[arg(long)]
    seed: Option<u64>,
    /// Name of the bundle; overrides the recipe.
    #[arg(long)]
    name: Option<String>,
    /// Most bytes that a device may have to load: item vectors are packed to 4 bits and the least popular
    /// items left out as far as it takes. Overrides the recipe.
    #[arg(long, value_name = "BYTES")]
    max_bundle_bytes: Option<u64>,
}

impl RecipeArgs {
    /// The recipe of the file (or the default) with the overrides.
    pub(crate) fn recipe(&self) -> Result<Recipe> {
        let mut recipe =
            self.recipe.as_ref().map_or_else(|| Ok(Recipe::default()), |file| Recipe::read(file))?;
        recipe.split = self.split.map_or(recipe.split, SplitKind::from);
        recipe.seed = self.seed.unwrap_or(recipe.seed);
        recipe.name = self.name.clone().unwrap_or(recipe.name);
        recipe.max_bundle_bytes = self.max_bundle_bytes.or(recipe.max_bundle_bytes);
        Ok(recipe)
    }
}
