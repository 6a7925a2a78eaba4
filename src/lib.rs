//! Bulla
