"""Images: where they come from, how they are listed, decoded, stored and made into views."""
