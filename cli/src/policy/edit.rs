//! Editing a policy.
