//! The OCI distribution protocol over HTTP: authentication, manifests, ranges, uploads.
