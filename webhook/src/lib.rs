//! The admission server and its controllers.
