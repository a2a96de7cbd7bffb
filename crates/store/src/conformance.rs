//! The suite that every store and every wrapper passes.
