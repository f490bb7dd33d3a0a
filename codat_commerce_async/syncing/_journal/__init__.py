"""The file of a journal: its entries and tables, who may write it, how it is verified, and how it is read."""
