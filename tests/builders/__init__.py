"""What tests are made of, one module for each part of the product: tables, events, recorded streams, services."""
