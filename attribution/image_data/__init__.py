"""Training images in the forms that people have them: folders, tar archives, tables.

Nothing here opens an image or imports torch: the API reads these too.
"""
