"""avfs for frameworks: one module for each, which needs the packages of an extra of its own and which nothing else imports."""
