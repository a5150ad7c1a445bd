//! Tokio's channels, with a step of the model before each use.

/// Lets the scheduler choose who goes on.
fn step() {
    shuttle::thread::yield_now();
}

pub(crate) mod watch {
    //! As `tokio::sync::watch`.

    use tokio::sync::watch;
    pub(crate) use tokio::sync::watch::Ref;
    use tokio::sync::watch::error::RecvError;

    use super::step;

    pub(crate) struct Sender<T>(watch::Sender<T>);

    #[derive(Clone)]
    pub(crate) struct Receiver<T>(watch::Receiver<T>);

    pub(crate) fn channel<T>(value: T) -> (Sender<T>, Receiver<T>) {
        let (sender, receiver) = watch::channel(value);
        (Sender(sender), Receiver(receiver))
    }

    impl<T> Sender<T> {
        pub(crate) fn new(value: T) -> Self {
            Sender(watch::Sender::new(value))
        }

        pub(crate) fn subscribe(&self) -> Receiver<T> {
            step();
            Receiver(self.0.subscribe())
        }

        pub(crate) fn send_replace(&self, value: T) -> T {
            step();
            self.0.send_replace(value)
        }
    }

    impl<T> Receiver<T> {
        pub(crate) async fn wait_for(
            &mut self,
            is_wanted: impl FnMut(&T) -> bool,
        ) -> Result<Ref<'_, T>, RecvError> {
            step();
            self.0.wait_for(is_wanted).await
        }

        pub(crate) async fn changed(&mut self) -> Result<(), RecvError> {
            step();
            self.0.changed().await
        }

        pub(crate) fn mark_unchanged(&mut self) {
            step();
            self.0.mark_unchanged();
        }
    }
}

pub(crate) mod oneshot {
    //! As `tokio::sync::oneshot`.

    use std::pin::Pin;
    use std::task::{Context, Poll};

    use tokio::sync::oneshot;
    use tokio::sync::oneshot::error::RecvError;

    use super::step;

    pub(crate) struct Sender<T>(oneshot::Sender<T>);

    pub(crate) struct Receiver<T>(oneshot::Receiver<T>);

    pub(crate) fn channel<T>() -> (Sender<T>, Receiver<T>) {
        let (sender, receiver) = oneshot::channel();
        (Sender(sender), Receiver(receiver))
    }

    impl<T> Sender<T> {
        pub(crate) fn send(self, value: T) -> Result<(), T> {
            step();
            self.0.send(value)
        }
    }

    impl<T> Future for Receiver<T> {
        type Output = Result<T, RecvError>;

        fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
            step();
            Pin::new(&mut self.0).poll(context)
        }
    }
}
