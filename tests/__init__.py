"""The promises attar makes, each written as a test."""
