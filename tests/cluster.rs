//! The controller as a process, on a real API server, with the rights that it is shipped with.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod cluster {
    mod admission;
    mod alike;
    mod bitnami;
    mod bitnami_http;
    mod bitnami_objects;
    mod blocked;
    mod costs;
    mod fairness;
    mod http;
    mod keys;
    mod kubeseal;
    mod manifests;
    mod migrate;
    mod objects;
    mod ownership;
    mod program;
    mod refusals;
    mod replicas;
    mod restart;
    mod rights;
    mod rsa_keys;
    mod runbook;
    mod templates;
    mod workflows;
    mod world;
}
