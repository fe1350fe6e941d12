"""Two stages of a model's way side by side: what one labels, and what the other does.

Read in this order: sides, images, measure, thresholds, pictures, summary,
html_page, markdown_page, page.
"""
